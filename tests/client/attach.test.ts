import { readFileSync, writeFileSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import type { StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { attach } from '../support/attach.ts'

const SHELL = 'stty -echo; echo up; while read -r line; do echo "<$line> $(stty size)"; done; echo bye'
const FLOOD = 'echo flood; read -r go; head -c 5000000 /dev/zero | tr "\\0" x; echo end; sleep 1000'

let home: string
let agent: AgentProcess
beforeAll(async () => {
  home = makeHome()
  agent = await startAgent({ home })
  const processes = {
    shell: { kind: 'command', command: ['bash', '-c', SHELL] },
    flood: { kind: 'command', command: ['bash', '-c', FLOOD] },
  }
  writeFileSync(join(home, 'manifest.yaml'), JSON.stringify({ version: 1, name: 'terminals', processes }))
  await agent.agentctl(['apply', join(home, 'manifest.yaml')])
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await removeHome(home)
})

const env = () => ({ HOME: home, AGENT_HOME: home })

const open = (path: string, headers: Readonly<Record<string, string>> = {}) =>
  new WebSocket(`ws://agent${path}`, {
    headers,
    createConnection: () => createConnection(join(home, 'run/agent.sock')),
  })

const bearer = () => ({
  authorization: `Bearer ${readFileSync(join(home, 'state/local-token'), 'utf8').trim()}`,
})

const refusalOf = (ws: WebSocket): Promise<number> =>
  new Promise((resolve) => {
    ws.on('error', () => undefined)
    ws.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0))
    ws.on('open', () => resolve(101))
  })

test('attach shows what went before, sends keys and the size, and detaches with ctrl-]', async () => {
  const one = attach('shell', { env: env(), size: { cols: 90, rows: 30 } })
  await one.shown('up')
  one.type('first\r')
  expect(await one.shown('<first> 30 90\r\n')).not.toContain('\r\r\n')
  one.resize(77, 22)
  await delay(300)
  one.type('second\r')
  await one.shown('<second> 22 77')
  const two = attach('shell', { env: env() })
  await two.shown('<second>')
  two.type('from two\r')
  await one.shown('<from two>')
  two.type('\x1d')
  expect(await two.ended()).toBe(0)
  await two.shown('detached from shell; it goes on').catch(() => undefined)
  one.type('still here\r')
  await one.shown('<still here>')
})

test('attach goes on over a restart of the agent, and returns when the process has ended', async () => {
  const terminal = attach('shell', { env: env() })
  await terminal.shown('up')
  await agent.kill('SIGKILL')
  await terminal.shown('trying again')
  agent = await startAgent({ home })
  await agent.agentctl(['exec', '--', 'true'])
  const before = await terminal.shown('trying again')
  while (!(await terminal.shown('')).includes('<back>')) {
    terminal.type('back\r')
    await delay(500)
  }
  const after = (await terminal.shown('<back>')).slice(before.length)
  // What was shown before the break is not shown again.
  expect(after).not.toContain('up\r')
  terminal.type('\x04')
  expect(await terminal.ended()).toBe(0)
  const refused = attach('shell', { env: env() })
  expect(await refused.ended()).toBe(1)
})

test('a reader that does not read is let go, and neither the log nor another reader waits for it', async () => {
  const slow = open('/v1/processes/flood/terminal', bearer())
  const closed = new Promise<number>((resolve) => slow.once('close', resolve))
  await new Promise((resolve) => slow.once('open', resolve))
  slow.pause()
  const other = attach('flood', { env: env() })
  await other.shown('flood')
  other.type('go\r')
  const shown = await other.shown('xend')
  expect(shown.match(/x/g)).toHaveLength(5_000_000)
  expect(shown).not.toContain('trying again')
  other.type('\x1d')
  expect(await other.ended()).toBe(0)
  slow.resume()
  const code = await closed
  expect(code).toBe(1013)
  const { stdout } = await agent.agentctl(['logs', '--tail', '1', 'flood'])
  expect(stdout.trimEnd().endsWith('end')).toBe(true)
})

test('the gate is the same as for requests: no token, a small scope, a web page, no such process', async () => {
  const path = '/v1/processes/flood/terminal'
  expect(await refusalOf(open(path))).toBe(401)
  expect(await refusalOf(open(path, { ...bearer(), origin: 'https://evil.test' }))).toBe(403)
  expect(await refusalOf(open('/v1/processes/nobody/terminal', bearer()))).toBe(404)
  const { stdout } = await agent.agentctl(['token', 'create', 'ci', '--scope', 'operate', '--json'])
  const token = /"token":"([0-9a-f]+\.[^"]+)"/.exec(stdout)?.[1] ?? ''
  expect(await refusalOf(open(path, { authorization: `Bearer ${token}` }))).toBe(403)
  expect(await refusalOf(open('/v1/status', bearer()))).toBe(400)
})

test('an agent that is asked to stop does not wait for those who watch', async () => {
  const watcher = open('/v1/processes/flood/terminal', bearer())
  watcher.on('error', () => undefined)
  const gone = new Promise<void>((resolve) => watcher.once('close', () => resolve()))
  await new Promise((resolve) => watcher.once('open', resolve))
  await agent.kill('SIGTERM')
  await gone
  agent = await startAgent({ home })
  const { stdout } = await agent.agentctl(['status', '--json'])
  expect((JSON.parse(stdout) as StatusRecord).processes.map(({ name }) => name)).toContain('flood')
})
