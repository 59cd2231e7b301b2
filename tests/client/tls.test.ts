import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect, createServer } from 'node:tls'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { loadTlsIdentity } from '../../agent/http/tls-identity.ts'
import type { StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, runProgram, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'
import { attach } from '../support/attach.ts'
import { freePort } from '../support/comfyui/stand-in.ts'
import { shellAndPage } from '../support/shell-and-page.ts'
import { enterPage } from '../support/enter-page.ts'
import { listeningPorts } from '../support/listening-ports.ts'
import { AGENTD } from '../support/programs.ts'

/* The real agentd on a TLS port, and the real agentctl from a machine that has no ssh. */

const OTHER_PIN = `sha256//${Buffer.alloc(32).toString('base64')}`
const SECRET = 'a'.repeat(43)
const HASH = createHash('sha256').update(SECRET).digest('hex')

let home: string
let port: number
let agent: AgentProcess
let pairing: { token: string; spkiPin: string; tlsPort: number }
let env: Record<string, string>

/** A killed agent leaves its socket behind, so the new one is waited for by its own word. */
const start = async (tokenHash = `injected0001:${HASH}:operate`): Promise<AgentProcess> => {
  const started = await startAgent({
    home,
    args: ['--listen', `tls://127.0.0.1:${port}`],
    env: { AGENT_TOKEN_HASH: tokenHash },
  })
  while (!started.log().includes('agentd is ready')) {
    if (started.child.exitCode !== null) throw new Error(started.log())
    await delay(20)
  }
  return started
}
const address = () => `https://127.0.0.1:${port}`
const agentctl = (...args: string[]) => runAgentctl(args, { env })
const pair = (pin: string, name: string, input = JSON.stringify(pairing)) =>
  runAgentctl(['pair', address(), '--pin', pin, '--name', name], { env, input })

beforeAll(async () => {
  home = makeHome()
  port = await freePort()
  mkdirSync(join(home, 'laptop'))
  env = { HOME: join(home, 'laptop'), XDG_CONFIG_HOME: join(home, 'laptop') }
  agent = await start()
  const printed = await runProgram([process.execPath, AGENTD, 'pair', '--json'], {
    env: { AGENT_HOME: home },
  })
  pairing = JSON.parse(printed.stdout) as typeof pairing
  expect(pairing.tlsPort).toBe(port)
  expect(await pair(pairing.spkiPin, 'box')).toMatchObject({ code: 0, stderr: '' })
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await removeHome(home)
})

test('a paired box is reached over TLS, with nothing but its address', async () => {
  const { code, stdout } = await agentctl('status', '--json')
  expect(code).toBe(0)
  expect((JSON.parse(stdout) as StatusRecord).agent.home).toBe(home)
  const listed = await agentctl('context', 'ls', '--json')
  expect(JSON.parse(listed.stdout)).toMatchObject({ contexts: [{ name: 'box', target: address() }] })
  // The address of a box that was paired brings its token and pin along.
  expect((await runAgentctl(['ps'], { env: { ...env, AGENTCTL_HOST: address() } })).code).toBe(0)
})

test('AGENTCTL_HOST, AGENTCTL_PIN and AGENTCTL_TOKEN are enough', async () => {
  const only = { HOME: '/nonexistent', AGENTCTL_HOST: address(), AGENTCTL_TOKEN: pairing.token }
  expect((await runAgentctl(['ps'], { env: { ...only, AGENTCTL_PIN: pairing.spkiPin } })).code).toBe(0)
  expect((await runAgentctl(['ps'], { env: { ...only, AGENTCTL_PIN: 'sha256//short' } })).code).toBe(2)
  expect((await runAgentctl(['ps'], { env: only })).code).toBe(2)
})

test('the key is for the agent’s user alone, and outlives the agent with its pin', async () => {
  const file = join(home, 'state/tls-key.pem')
  expect(statSync(file).mode & 0o777).toBe(0o600)
  const key = readFileSync(file, 'utf8')
  await agent.kill('SIGKILL')
  agent = await start()
  expect(readFileSync(file, 'utf8')).toBe(key)
  expect((await agentctl('ps')).code).toBe(0)
  expect(agent.log()).toContain(pairing.spkiPin)
})

test('T53: it listens on the port that was asked for and on no other', () => {
  expect(listeningPorts(agent.child.pid ?? 0)).toEqual([`127.0.0.1:${port}`])
})

test('only TLS 1.3 is spoken, on a P-256 key', async () => {
  const handshake = (maxVersion: 'TLSv1.2' | 'TLSv1.3') =>
    new Promise<string>((resolve) => {
      const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, maxVersion })
      socket.once('secureConnect', () => {
        const { asn1Curve } = socket.getPeerCertificate()
        resolve(`${socket.getProtocol() ?? ''} ${asn1Curve ?? ''}`)
        socket.destroy()
      })
      socket.once('error', (error: Error) => resolve(error.message))
    })
  expect(await handshake('TLSv1.3')).toBe('TLSv1.3 prime256v1')
  expect(await handshake('TLSv1.2')).toMatch(/protocol version/)
})

test('plain HTTP on the port is answered with nothing', async () => {
  const answer = await new Promise<string>((resolve) => {
    const asked = request({ host: '127.0.0.1', port, path: '/healthz' }, () => resolve('answered'))
    asked.once('error', (error) => resolve(error.message))
    asked.end()
  })
  expect(answer).not.toBe('answered')
})

/** A server with a certificate of the same form and name, which notes every byte of a request. */
const startImpostor = async (): Promise<{
  port: number
  received: () => string
  connections: () => number
}> => {
  const folder = makeHome()
  const { key, certificate: cert } = loadTlsIdentity(folder)
  let text = ''
  let count = 0
  const sockets = new Set<TLSSocket>()
  const server = createServer({ key, cert }, (socket) => {
    sockets.add(socket)
    socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
    socket.on('error', () => undefined)
  })
  server.on('connection', () => (count += 1))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await removeHome(folder)
  })
  return { port: (server.address() as AddressInfo).port, received: () => text, connections: () => count }
}

test('T31: an impostor with a certificate of the same name gets no byte of the request', async () => {
  const impostor = await startImpostor()
  const where = { AGENTCTL_HOST: `https://127.0.0.1:${impostor.port}`, AGENTCTL_TOKEN: pairing.token }
  const { code, stderr } = await runAgentctl(['status'], {
    env: { ...env, ...where, AGENTCTL_PIN: pairing.spkiPin },
  })
  expect(code).toBe(5)
  expect(stderr).toMatch(
    /^error: the certificate of https:\/\/127\.0\.0\.1:\d+ is not the one that is pinned: sha256\/\/.+, not sha256\/\/.+\ntry: If the box was made anew, pair .+\n$/,
  )
  expect(impostor.connections()).toBe(1)
  await delay(200)
  expect(impostor.received()).toBe('')
})

test('another pin pairs nothing, and the context that there was stays as it is', async () => {
  const before = readFileSync(join(home, 'laptop/gpu-agent/contexts.json'), 'utf8')
  expect((await pair(OTHER_PIN, 'box')).code).toBe(5)
  expect((await pair('sha256//x', 'box')).code).toBe(2)
  expect((await pair(pairing.spkiPin, 'box', 'wrong.token')).code).toBe(4)
  const without = await runAgentctl(['pair', address()], { env, input: pairing.token })
  expect(without).toMatchObject({ code: 2, stdout: '' })
  expect(without.stderr).toContain(`${address()} needs --pin`)
  expect(readFileSync(join(home, 'laptop/gpu-agent/contexts.json'), 'utf8')).toBe(before)
})

test('attach and open work over TLS', async () => {
  const manifest = join(home, 'm.yaml')
  writeFileSync(manifest, JSON.stringify({ version: 1, name: 'tls', processes: await shellAndPage() }))
  expect((await agentctl('apply', manifest)).code).toBe(0)
  const terminal = attach('shell', { env })
  await terminal.shown('up')
  terminal.type('over tls\r')
  await terminal.shown('<over tls>')
  const open = startAgentctl(['open', 'page'], { env })
  onTestFinished(() => {
    open.child.kill('SIGKILL')
  })
  await open.printed('agentctl-open=')
  const page = await enterPage(open.stdout())
  expect(await (await page('/hello')).json()).toMatchObject({ url: '/hello' })
})

test('a token that the box was created with counts, and stays revoked once it was', async () => {
  const injected = { HOME: '/nonexistent', AGENTCTL_HOST: address(), AGENTCTL_PIN: pairing.spkiPin }
  const withToken = { ...injected, AGENTCTL_TOKEN: `injected0001.${SECRET}` }
  expect((await runAgentctl(['ps'], { env: withToken })).code).toBe(0)
  // It has its own scope, no more.
  expect((await runAgentctl(['token', 'ls'], { env: withToken })).code).toBe(4)
  expect((await agentctl('token', 'revoke', 'injected0001')).code).toBe(0)
  expect((await runAgentctl(['ps'], { env: withToken })).code).toBe(4)
  await agent.kill('SIGTERM')
  agent = await start()
  expect((await runAgentctl(['ps'], { env: withToken })).code).toBe(4)
})

test('a hash that is none is a problem of the box, and no reason not to start', async () => {
  await agent.kill('SIGTERM')
  agent = await start('me:plain-secret:admin')
  const { stdout } = await agentctl('status', '--json')
  const { problems } = JSON.parse(stdout) as StatusRecord
  expect(problems).toContainEqual(
    expect.objectContaining({ code: 'usage', subject: 'AGENT_TOKEN_HASH', severity: 'warning' }),
  )
  expect(stdout + agent.log()).not.toContain('plain-secret')
})

test('token create --offline makes what a box is created with, and asks no box', async () => {
  const made = await runAgentctl(['token', 'create', 'me', '--scope', 'admin', '--offline', '--json'], {
    env: { HOME: '/nonexistent' },
  })
  const { token } = JSON.parse(made.stdout) as { token: { id: string; token: string; hash: string } }
  const [id = '', secret = ''] = token.token.split('.')
  expect(token.hash).toBe(`${id}:${createHash('sha256').update(secret).digest('hex')}:admin`)
})

test('a key that is damaged is not replaced: the agent says so and does not start', async () => {
  const other = makeHome()
  onTestFinished(() => removeHome(other))
  mkdirSync(join(other, 'state'), { recursive: true })
  writeFileSync(join(other, 'state/tls-key.pem'), 'not a key')
  const args = ['--home', other, '--listen', `tls://127.0.0.1:${await freePort()}`]
  const { code, stderr } = await runProgram([process.execPath, AGENTD, ...args])
  expect(code).toBe(3)
  expect(stderr).toMatch(/TLS key .* cannot be used[\s\S]*try: Put the right file back/)
})

test('a port that is taken is said at the start', async () => {
  const other = makeHome()
  onTestFinished(() => removeHome(other))
  const args = ['--home', other, '--listen', `tls://127.0.0.1:${port}`]
  const { code, stderr } = await runProgram([process.execPath, AGENTD, ...args])
  expect(code).toBe(3)
  expect(stderr).toContain(`error: cannot listen on tls://127.0.0.1:${port}`)
})
