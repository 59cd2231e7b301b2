import { execFileSync } from 'node:child_process'
import { createHash, X509Certificate } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadTlsIdentity } from '../../../agent/http/tls-identity.ts'
import { findProgram } from '../../../agent/platform/commands.ts'
import { makeHome } from '../../support/agent-process.ts'

const openssl = findProgram('openssl', process.env['PATH'] ?? '')

const load = () => {
  const folder = makeHome()
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return { folder, identity: loadTlsIdentity(folder) }
}

test('the certificate is of the key, signed by it, and never expires', () => {
  const { identity } = load()
  const certificate = new X509Certificate(identity.certificate)
  expect(certificate.verify(certificate.publicKey)).toBe(true)
  expect(certificate.publicKey.asymmetricKeyDetails).toMatchObject({ namedCurve: 'prime256v1' })
  expect(certificate).toMatchObject({
    subject: 'CN=gpu-agent',
    issuer: 'CN=gpu-agent',
    subjectAltName: 'DNS:agent',
  })
  expect(new Date(certificate.validTo).getUTCFullYear()).toBe(9999)
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' })
  expect(identity.spkiPin).toBe(`sha256//${createHash('sha256').update(spki).digest('base64')}`)
})

test('a second start shows the same key in another certificate', () => {
  const { folder, identity } = load()
  const again = loadTlsIdentity(folder)
  expect({ ...again, certificate: '' }).toEqual({ ...identity, certificate: '' })
  expect(again.certificate).not.toBe(identity.certificate)
})

test.skipIf(openssl === undefined)(
  `OpenSSL verifies what we write (${openssl ?? 'no openssl on the PATH'}), fifty times`,
  () => {
    const { folder } = load()
    const file = join(folder, 'all.pem')
    // Serial numbers and signatures differ in length and sign from one to the next.
    for (let round = 0; round < 50; round += 1) {
      writeFileSync(file, loadTlsIdentity(folder).certificate)
      const said = execFileSync(openssl ?? '', ['verify', '-x509_strict', '-CAfile', file, file], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      expect(said).toContain('OK')
    }
  },
)
