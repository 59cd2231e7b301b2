import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ProcessRow } from '../../shared/contract/records.ts'
import { startAgentctl } from '../support/agentctl.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'

let home: string
let agent: AgentProcess
beforeAll(async () => {
  home = makeHome()
  agent = await startAgent({ home })
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await removeHome(home)
})

const exec = (...command: string[]) => agent.agentctl(['exec', '--', ...command])
const env = () => ({ AGENT_HOME: home, HOME: home })

test('exec prints the output of a command and exits as it did', async () => {
  const script = 'echo one; echo two >&2; exit 7'
  expect(await exec('sh', '-c', script)).toEqual({ code: 7, stdout: 'one\ntwo\n', stderr: '' })
  expect(await exec('true')).toEqual({ code: 0, stdout: '', stderr: '' })
})

test('a command that a signal ended exits with 128 and its number', async () => {
  expect((await exec('sh', '-c', 'kill -TERM $$')).code).toBe(143)
})

test('a program that is not there is 127; a failure of agentctl itself is 125', async () => {
  const missing = await exec('no-such-program')
  expect(missing).toMatchObject({ code: 127, stdout: '' })
  expect(missing.stderr).toContain('there is no program no-such-program')
  const away = startAgentctl(['exec', '--', 'true'], {
    env: { HOME: home, AGENTCTL_HOST: `unix:${join(home, 'nobody.sock')}` },
  })
  expect((await away.ended).code).toBe(125)
})

test('a program that asks for input is told that nothing comes; under exec -d it waits at its terminal', async () => {
  expect(await exec('sh', '-c', 'cat; echo no more; test -t 1')).toMatchObject({
    code: 0,
    stdout: 'no more\n',
  })
  const begun = await agent.agentctl(['exec', '-d', '--json', '--', 'sh', '-c', 'test -t 0'])
  const { name } = (JSON.parse(begun.stdout) as { process: ProcessRow }).process
  expect((await agent.agentctl(['wait', name])).code).toBe(0)
})

test('no command, and an option of agentctl that does not exist, are mistakes of the command line', async () => {
  expect((await agent.agentctl(['exec'])).code).toBe(2)
  expect((await agent.agentctl(['exec', '--nothing', 'true'])).code).toBe(2)
})

test('exec -d returns at once; its output and end can be asked for', async () => {
  const { code, stdout } = await agent.agentctl([
    'exec',
    '-d',
    '--json',
    '--',
    'sh',
    '-c',
    'echo hello; exit 3',
  ])
  expect(code).toBe(0)
  const { name } = (JSON.parse(stdout) as { process: ProcessRow }).process
  expect((await agent.agentctl(['wait', name])).code).toBe(1)
  expect((await agent.agentctl(['logs', name])).stdout).toBe('hello\n')
})

test('a command outlives its client; its failure does not make the box unhealthy, and applying does not end it', async () => {
  const running = startAgentctl(['exec', '--', 'sh', '-c', 'echo begun; sleep 4; echo done'], { env: env() })
  await running.printed('begun')
  running.child.kill('SIGINT')
  const { code, stderr } = await running.ended
  expect(code).toBe(130)
  const name = /(exec\.[0-9a-f]{6}) goes on/.exec(stderr)?.[1] ?? ''
  writeFileSync(join(home, 'empty.yaml'), 'version: 1\nname: empty\n')
  expect((await agent.agentctl(['apply', join(home, 'empty.yaml')])).code).toBe(0)
  expect((await agent.agentctl(['status', '--check'])).code).toBe(0)
  expect((await agent.agentctl(['wait', name])).code).toBe(0)
  expect((await agent.agentctl(['logs', name])).stdout).toBe('begun\ndone\n')
})

test('a client follows its command over a restart of the agent, and misses nothing', async () => {
  const running = startAgentctl(
    ['exec', '--', 'sh', '-c', 'for i in 1 2 3 4 5 6; do echo $i; sleep 1; done'],
    {
      env: env(),
    },
  )
  await running.printed('2')
  await agent.kill('SIGKILL')
  await delay(200)
  agent = await startAgent({ home })
  expect(await running.ended).toMatchObject({ code: 0, stdout: '1\n2\n3\n4\n5\n6\n' })
})

test('what a command prints first after a silence is followed from its first byte', async () => {
  const script = 'sleep 2; echo first; sleep 1; echo second'
  const running = startAgentctl(['exec', '--', 'sh', '-c', script], { env: env() })
  expect(await running.ended).toMatchObject({ code: 0, stdout: 'first\nsecond\n' })
})

test('a token for operating may not run commands', async () => {
  const { stdout } = await agent.agentctl(['token', 'create', 'ci', '--scope', 'operate', '--json'])
  const token = /"token":"([0-9a-f]+\.[^"]+)"/.exec(stdout)?.[1] ?? ''
  const refused = startAgentctl(['exec', '--', 'true'], {
    env: { HOME: home, AGENTCTL_HOST: `unix:${join(home, 'run/agent.sock')}`, AGENTCTL_TOKEN: token },
  })
  expect(await refused.ended).toMatchObject({
    code: 125,
    stderr: expect.stringContaining('this needs admin') as string,
  })
})
