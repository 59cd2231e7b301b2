import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { readCertificate } from '../../support/hub/certificate.ts'

const PROGRAM = join(import.meta.dirname, 'programs/fetch-over-tls.ts')

test('bodies of any size come one after the other over TLS, also when the end arrives during a pause', async () => {
  const certificate = readCertificate()
  let connections = 0
  const server = createServer({ ...certificate }, (request, response) => {
    response.end(Buffer.alloc(Number(request.url?.slice(1)), 'x'))
  })
  server.on('secureConnection', () => (connections += 1))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const folder = mkdtempSync(join(tmpdir(), 'http-client-tls-'))
  try {
    writeFileSync(join(folder, 'certificate.pem'), certificate.cert)
    const { port } = server.address() as AddressInfo
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, `https://127.0.0.1:${port}`], {
      env: { NODE_EXTRA_CA_CERTS: join(folder, 'certificate.pem') },
      timeout: 60_000,
    })
    let wanted = 0
    for (let size = 2 ** 20; size < 2 ** 20 + 400_000; size += 3_001) wanted += size
    expect(Number(stdout)).toBe(wanted)
    expect(connections).toBe(1)
  } finally {
    server.close()
    server.closeAllConnections()
    rmSync(folder, { recursive: true })
  }
})
