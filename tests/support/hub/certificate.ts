import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const FOLDER = join(import.meta.dirname, '..', '..', 'fixtures', 'tls')

/** The certificate of the fake hub, for 127.0.0.1 and localhost. It signs itself, and its key is no secret. */
export const readCertificate = (): { readonly key: string; readonly cert: string } => ({
  key: readFileSync(join(FOLDER, 'key.pem'), 'utf8'),
  cert: readFileSync(join(FOLDER, 'cert.pem'), 'utf8'),
})
