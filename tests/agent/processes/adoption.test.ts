import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import { expect, onTestFinished, test } from 'vitest'
import { readStarttime } from '../../../agent/processes/process-tree.ts'
import type { ProcessRow } from '../../../shared/contract/records.ts'
import {
  FIXTURES,
  forever,
  isAlive,
  jobFolder,
  livingProcesses,
  makeHome,
  planCommand,
  readAll,
  shimPid,
  spawnRoom,
  startRoom,
  until,
  untilState,
} from './kit.ts'

const signal = forever()

test('T1: an agent killed again and again finds its process where it was, with no gap in the output', async () => {
  const home = makeHome()
  const plan = [planCommand('ticker', ['ticker'], { restart: 'always' })]
  let room = await spawnRoom(home, { plan, until: 'settled' })
  const [row] = (room.lines().at(-1)?.['outcomes'] ?? []) as { state: string }[]
  expect(row?.state).toBe('running')
  const pid = livingProcesses(home, 'ticker').at(0) ?? 0
  const starttime = readStarttime(pid)
  for (let kills = 0; kills < 6; kills += 1) {
    await room.kill()
    room = await spawnRoom(home, { plan: [], until: 'adopted' })
    const rows = room.lines().find(({ type }) => type === 'adopted')?.['rows'] as ProcessRow[]
    expect(rows).toMatchObject([{ name: 'ticker', state: 'running', restarts: 0, problem: null }])
    expect(rows[0]?.pid).toBe(pid)
    expect(readStarttime(pid)).toBe(starttime)
  }
  await room.kill()
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(await processes.stop('ticker', { signal })).toBe('stopped')
  const numbers = (await readAll(processes, 'ticker'))
    .split('\r\n')
    .filter((line) => /^\d+$/.test(line))
    .map(Number)
  expect(numbers.length).toBeGreaterThan(20)
  expect(numbers).toEqual(numbers.map((_, index) => index))
})

test('T2: an agent killed before its shim was ready finds that one job, and starts no second', async () => {
  const home = makeHome()
  const plan = [planCommand('ticker', ['ticker'], { restart: 'always' })]
  const room = await spawnRoom(home, {
    plan,
    shimFile: join(FIXTURES, 'slow-shim.ts'),
    until: 'process.state',
  })
  await until(() => existsSync(join(jobFolder(home, 'ticker'), 'shim.log')))
  // The environment has left the agent once it is in the pipe; the shim reads it when it gets to it.
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect(existsSync(join(jobFolder(home, 'ticker'), 'state.json'))).toBe(false)
  await room.kill()
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(processes.row('ticker').pid).not.toBeNull()
  expect(await processes.apply(plan, { signal })).toMatchObject([{ action: 'kept', state: 'running' }])
  expect((await readAll(processes, 'ticker')).match(/^0\r$/gm)).toHaveLength(1)
})

test('T3: with its shim killed a process is lost, its tree is ended and its output is kept', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  await processes.apply([planCommand('job', ['escapes'])], { signal })
  await until(async () => (await readAll(processes, 'job')).includes('started'))
  await until(() => livingProcesses(home, 'job').length >= 5)
  process.kill(shimPid(home, 'job'), 'SIGKILL')
  await untilState(processes, 'job', 'lost')
  expect(livingProcesses(home, 'job')).toEqual([])
  expect(processes.row('job').problem).toMatchObject({ code: 'process_lost', severity: 'error' })
  expect(await readAll(processes, 'job')).toContain('started')
})

test('T4: a shim that is stopped makes its process unresponsive, holds up no other, and is taken back', async () => {
  const home = makeHome()
  const plan = ['one', 'two'].map((name) => planCommand(name, ['ticker'], { restart: 'always' }))
  const first = startRoom(home)
  await first.processes.apply(plan, { signal })
  await first.leave()
  process.kill(shimPid(home, 'one'), 'SIGSTOP')
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(processes.rows().map(({ state }) => state)).toEqual(['unresponsive', 'running'])
  process.kill(shimPid(home, 'one'), 'SIGCONT')
  await untilState(processes, 'one', 'running')
  expect(processes.row('one')).toMatchObject({ problem: null, restarts: 0 })
})

test('T4: a process whose shim is stopped can still be ended', async () => {
  const home = makeHome()
  const first = startRoom(home)
  await first.processes.apply([planCommand('one', ['ticker'], { restart: 'always' })], { signal })
  await first.leave()
  process.kill(shimPid(home, 'one'), 'SIGSTOP')
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(await processes.stop('one', { signal })).toBe('stopped')
  expect(processes.row('one').state).toBe('stopped')
  expect(livingProcesses(home, 'one')).toEqual([])
})

test('T7: a recorded pid that is another process by now is never signalled', async () => {
  const home = makeHome()
  const first = startRoom(home)
  await first.processes.apply([planCommand('job', ['ticker'])], { signal })
  await first.leave()
  const bystander = spawn('sleep', ['1000'], { stdio: 'ignore' })
  onTestFinished(() => void bystander.kill())
  const stateFile = join(jobFolder(home, 'job'), 'state.json')
  const state = JSON.parse(readFileSync(stateFile, 'utf8')) as { shimPid: number; pid: number }
  process.kill(state.shimPid, 'SIGKILL')
  await until(() => !isAlive(state.pid))
  const pid = bystander.pid ?? 0
  writeFileSync(stateFile, JSON.stringify({ ...state, pid, starttime: readStarttime(pid) }))
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(processes.row('job').state).toBe('lost')
  expect(isAlive(pid)).toBe(true)
  expect(bystander.signalCode).toBeNull()
})

test('after a boot a process counts as stopped, nothing is signalled, and the plan starts it again', async () => {
  const home = makeHome()
  const plan = [planCommand('job', ['ticker'], { restart: 'always' })]
  const first = startRoom(home)
  await first.processes.apply(plan, { signal })
  const { pid } = first.processes.row('job')
  await first.leave()
  const specFile = join(jobFolder(home, 'job'), 'spec.json')
  const spec = JSON.parse(readFileSync(specFile, 'utf8')) as Record<string, unknown>
  writeFileSync(specFile, JSON.stringify({ ...spec, bootId: 'the boot before' }))
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(processes.row('job')).toMatchObject({ state: 'stopped', pid: null, problem: null })
  expect(isAlive(pid ?? 0)).toBe(true)
  process.kill(shimPid(home, 'job'), 'SIGKILL')
  expect(await processes.apply(plan, { signal })).toMatchObject([{ action: 'started', state: 'running' }])
})

test('what ended while there was no agent is recorded at its next start', async () => {
  const home = makeHome()
  const plan = ['good', 'bad'].map((name) =>
    planCommand(name, ['bash', '-c', `sleep 1.5; exit ${name === 'good' ? 0 : 3}`]),
  )
  const first = startRoom(home)
  await first.processes.apply(plan, { signal })
  const shims = ['good', 'bad'].map((name) => shimPid(home, name))
  await first.leave()
  await until(() => !shims.some(isAlive))
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(processes.rows()).toMatchObject([
    { name: 'good', state: 'exited', exitCode: 0, problem: null },
    { name: 'bad', state: 'failed', exitCode: 3, problem: { code: 'process_failed' } },
  ])
})

test('a state that was lost is built again from the job folders', async () => {
  const home = makeHome()
  const plan = [planCommand('job', ['ticker'], { restart: 'always' })]
  const first = startRoom(home)
  await first.processes.apply(plan, { signal })
  const { pid } = first.processes.row('job')
  await first.leave()
  writeFileSync(join(home, 'state', 'state.db'), 'not a database')
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(processes.row('job')).toMatchObject({ pid, kind: 'command' })
  expect(await processes.apply(plan, { signal })).toMatchObject([{ action: 'kept' }])
})
