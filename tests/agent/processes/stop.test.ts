import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { stopLadder } from '../../../agent/processes/stop-tree.ts'
import {
  forever,
  isAlive,
  jobFolder,
  livingProcesses,
  makeHome,
  planCommand,
  readAll,
  shimPid,
  startRoom,
  until,
  untilState,
} from './kit.ts'

const signal = forever()
const impatient = { stop: { signal: 'SIGINT', timeout: '500ms' } }

test('T6: a stop finds children that left the group, the session and their parent', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  await processes.apply([planCommand('job', ['escapes'], impatient)], { signal })
  await until(() => livingProcesses(home, 'job').length >= 6)
  expect(await processes.stop('job', { signal })).toBe('stopped')
  expect(livingProcesses(home, 'job')).toEqual([])
  expect(processes.row('job')).toMatchObject({ state: 'stopped', pid: null, problem: null })
})

test.each([
  { timeoutMs: 500, termMs: 500 },
  { timeoutMs: 60_000, termMs: 10_000 },
])('who ignores its own signal for $timeoutMs ms has $termMs ms for SIGTERM', ({ timeoutMs, termMs }) => {
  expect(stopLadder({ signal: 'SIGINT', waitMs: timeoutMs })).toEqual([
    { signal: 'SIGINT', waitMs: timeoutMs },
    { signal: 'SIGTERM', waitMs: termMs },
  ])
})

test('T6: a child without its marker, its session and its parent is found by the cgroup (skipped where none can be made)', async ({
  skip,
}) => {
  const home = makeHome()
  const { processes } = startRoom(home)
  // The name of its sleep is the only thing that is left of its descent.
  const minutes = `${1_000_000 + process.pid}m`
  const command = `(env -i setsid sleep ${minutes} &); sleep 1000`
  await processes.apply([planCommand('job', ['bash', '-c', command], impatient)], { signal })
  const state = JSON.parse(readFileSync(join(jobFolder(home, 'job'), 'state.json'), 'utf8')) as {
    cgroup: string | null
  }
  const escaped = (): readonly number[] =>
    readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && commandLine(pid) === `sleep\0${minutes}\0`)
      .map(Number)
  await until(() => escaped().length === 1)
  await processes.stop('job', { signal })
  if (state.cgroup === null) {
    for (const pid of escaped()) process.kill(pid, 'SIGKILL')
    skip('this machine lets nobody make a cgroup')
  }
  expect(escaped()).toEqual([])
  await until(() => !existsSync(state.cgroup ?? ''))
})

test('what a job leaves behind when it ends by itself is ended with it', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  await processes.apply([planCommand('job', ['bash', '-c', 'setsid sleep 1000 & sleep 0.2'])], { signal })
  await untilState(processes, 'job', 'exited')
  expect(livingProcesses(home, 'job')).toEqual([])
})

test('T8: a job that ignores every request is killed at the deadline, and the record says so', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  await processes.apply([planCommand('job', ['stubborn'], impatient)], { signal })
  await until(async () => (await readAll(processes, 'job')).includes('started'))
  expect(await processes.stop('job', { signal })).toBe('stopped')
  expect(await readAll(processes, 'job')).toContain('not me')
  const exit: unknown = JSON.parse(readFileSync(join(jobFolder(home, 'job'), 'exit.json'), 'utf8'))
  expect(exit).toMatchObject({ exitCode: null, signal: 'SIGKILL', oom: false })
  expect(processes.row('job')).toMatchObject({ state: 'stopped', signal: 'SIGKILL' })
})

test('a job that never stops writing can be attached to and stopped meanwhile', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  await processes.apply([planCommand('job', ['yes', 'x'.repeat(5_000)], impatient)], { signal })
  const terminal = await processes.terminal('job', { signal })
  for await (const { bytes } of terminal.output) {
    expect(bytes.length).toBeGreaterThan(0)
    break
  }
  terminal.close()
  expect(await processes.stop('job', { signal })).toBe('stopped')
  expect(livingProcesses(home, 'job')).toEqual([])
})

test('the first signal of a stop is the one the manifest names', async () => {
  const { processes } = startRoom(makeHome())
  const command = [
    'bash',
    '-c',
    'trap "echo got QUIT; exit 7" QUIT; echo started; while :; do sleep 0.1; done',
  ]
  await processes.apply([planCommand('job', command, { stop: { signal: 'SIGQUIT' } })], { signal })
  await until(async () => (await readAll(processes, 'job')).includes('started'))
  await processes.stop('job', { signal })
  expect(await readAll(processes, 'job')).toContain('got QUIT')
  expect(processes.row('job')).toMatchObject({ state: 'stopped', exitCode: 7, signal: null })
})

test('an intended stop outlives the agent until a start or a changed plan', async () => {
  const home = makeHome()
  const plan = [planCommand('job', ['ticker'], { restart: 'always' })]
  const first = startRoom(home)
  await first.processes.apply(plan, { signal })
  expect(await first.processes.stop('job', { signal })).toBe('stopped')
  expect(await first.processes.stop('job', { signal })).toBe('already_stopped')
  await first.leave()
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(await processes.apply(plan, { signal })).toMatchObject([
    { action: 'kept', state: 'stopped', problem: null },
  ])
  expect(await processes.start('job', { signal })).toBe('started')
  expect(await processes.start('job', { signal })).toBe('already_running')
  await processes.stop('job', { signal })
  const changed = [planCommand('job', ['ticker'], { restart: 'always', env: { LEVEL: 'two' } })]
  expect(await processes.apply(changed, { signal })).toMatchObject([{ action: 'started', state: 'running' }])
})

test('a restart gives the process a new life, and an unknown name is not found', async () => {
  const { processes } = startRoom(makeHome())
  await processes.apply([planCommand('job', ['ticker'])], { signal })
  const { pid } = processes.row('job')
  expect(await processes.restart('job', { signal })).toBe('restarted')
  expect(processes.row('job').pid).not.toBe(pid)
  for (const ask of [processes.start, processes.stop, processes.restart])
    await expect(ask('nobody', { signal })).rejects.toMatchObject({ code: 'not_found' })
  expect(() => processes.row('nobody')).toThrow('there is no process nobody')
})

test('a shim that is asked to end passes it on to its process and records the end', async () => {
  const home = makeHome()
  const first = startRoom(home)
  await first.processes.apply([planCommand('job', ['sleep', '1000'])], { signal })
  const shim = shimPid(home, 'job')
  await first.leave()
  process.kill(shim, 'SIGTERM')
  await until(() => !isAlive(shim))
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(processes.row('job')).toMatchObject({ state: 'failed', signal: 'SIGINT' })
})

const commandLine = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // It ended between the listing and the look.
    return ''
  }
}
