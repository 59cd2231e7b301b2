import { createPublicKey, randomBytes, sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'

/*
 * One certificate of one fixed form (RFC 5280), written by hand: node reads X.509 and cannot write it, and the box may
 * have no openssl. docs/decisions/0004 has the reasons.
 */

/** A self-signed certificate for a P-256 key, as PEM. It never expires: clients know the key by its pin. */
export const selfSignedCertificate = (privateKey: KeyObject): string => {
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  const name = sequence(set(sequence(COMMON_NAME, element(UTF8_STRING, Buffer.from('gpu-agent')))))
  const toBeSigned = sequence(
    context(0, element(INTEGER, Buffer.from([2]))), // version 3
    element(INTEGER, serialNumber()),
    ECDSA_WITH_SHA256,
    name,
    sequence(time('20000101000000Z'), time('99991231235959Z')),
    name,
    spki,
    context(3, sequence(sequence(SUBJECT_ALT_NAME, element(OCTET_STRING, sequence(DNS_NAME))))),
  )
  const signature = sign('sha256', toBeSigned, privateKey)
  const der = sequence(toBeSigned, ECDSA_WITH_SHA256, element(BIT_STRING, Buffer.from([0]), signature))
  const lines = der.toString('base64').match(/.{1,64}/g) ?? []
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

const INTEGER = 0x02
const BIT_STRING = 0x03
const OCTET_STRING = 0x04
const OBJECT_IDENTIFIER = 0x06
const UTF8_STRING = 0x0c
const GENERALIZED_TIME = 0x18
const SEQUENCE = 0x30
const SET = 0x31

/** Tag, length, value. */
const element = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const value = Buffer.concat(parts)
  const { length } = value
  const head = length < 0x80 ? [tag, length] : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(head), value])
}
const sequence = (...parts: readonly Buffer[]): Buffer => element(SEQUENCE, ...parts)
const set = (...parts: readonly Buffer[]): Buffer => element(SET, ...parts)
const context = (number: number, part: Buffer): Buffer => element(0xa0 + number, part)
const time = (text: string): Buffer => element(GENERALIZED_TIME, Buffer.from(text))
const identifier = (hex: string): Buffer => element(OBJECT_IDENTIFIER, Buffer.from(hex, 'hex'))

/** Positive, 16 bytes, never beginning with a zero byte. */
const serialNumber = (): Buffer => {
  const bytes = randomBytes(16)
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40
  return bytes
}

/** 2.5.4.3 */
const COMMON_NAME = identifier('550403')
/** 2.5.29.17 */
const SUBJECT_ALT_NAME = identifier('551d11')
/** 1.2.840.10045.4.3.2 */
const ECDSA_WITH_SHA256 = sequence(identifier('2a8648ce3d040302'))
/** The name that clients of ours put into Host. */
const DNS_NAME = element(0x82, Buffer.from('agent'))
