import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { atomicWrite, errnoOf, errorText } from '../platform/files.ts'
import { selfSignedCertificate } from './self-signed.ts'

/** What the agent shows of itself over TLS. Clients know it by the pin alone; no authority has a part in it. */
export type TlsIdentity = {
  /** PEM. */
  readonly key: string
  /** PEM. */
  readonly certificate: string
  /** `sha256//` and the base64 SHA-256 of the public key (SubjectPublicKeyInfo), as `curl --pinnedpubkey` takes it. */
  readonly spkiPin: string
}

/**
 * The agent's TLS identity: a P-256 key, made at the first start that listens on a port and kept in the state folder for
 * its user alone. The certificate is made anew from it at each start: the pin is of the key.
 * @throws AgentError home_unusable when the key cannot be read: a new one would lock every paired client out
 */
export const loadTlsIdentity = (stateFolder: string): TlsIdentity => {
  const path = join(stateFolder, 'tls-key.pem')
  const key = readKey(path) ?? makeKey(path)
  try {
    const privateKey = createPrivateKey(key)
    const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
    return {
      key,
      certificate: selfSignedCertificate(privateKey),
      spkiPin: `sha256//${createHash('sha256').update(spki).digest('base64')}`,
    }
  } catch (error) {
    throw unusable(path, error)
  }
}

const readKey = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw unusable(path, error)
  }
}

const makeKey = (path: string): string => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  atomicWrite(path, key, { mode: 0o600 })
  return key
}

const unusable = (path: string, error: unknown): AgentError =>
  new AgentError('home_unusable', `the TLS key ${path} cannot be used: ${errorText(error)}`, {
    cause: error,
    hint: 'Put the right file back; without it, remove it, start again and pair every client again.',
  })
