import { expect, test } from 'vitest'
import type { Clock } from '../../../agent/platform/clock.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import type { RestartHistory } from '../../../agent/processes/restart-policy.ts'
import { addExit, decideRestart } from '../../../agent/processes/restart-policy.ts'
import {
  forever,
  livingProcesses,
  makeHome,
  planCommand,
  readAll,
  startRoom,
  until,
  untilState,
} from './kit.ts'

const signal = forever()
const minute = 60_000

/** The pauses before a return take a twentieth of their time; every other waiting is as long as it is. */
const fastClock: Clock = {
  ...systemClock,
  sleep: (ms, abort) => systemClock.sleep(ms > 1_000 && ms < 20_000 ? ms / 20 : ms, abort),
}
const fast = { clock: fastClock, random: () => 0.1 }

test('T9: a service that ends at once comes back with pauses, then it is crash-looping with its last output', async () => {
  const home = makeHome()
  const { processes, events } = startRoom(home, fast)
  const command = ['bash', '-c', 'for i in $(seq 300); do echo "line $i"; done; exit 1']
  const [outcome] = await processes.apply([planCommand('service', command, { restart: 'always' })], {
    signal,
  })
  expect(outcome).toMatchObject({
    state: 'crash-looping',
    problem: { code: 'crash_looping', severity: 'error' },
  })
  expect(outcome?.problem?.message).toContain(
    'service ended 5 times within ten minutes, the last time with status 1',
  )
  expect(outcome?.problem?.message.match(/^line \d+$/gm)).toHaveLength(200)
  expect(processes.row('service')).toMatchObject({ restarts: 4, pid: null, exitCode: 1 })
  const starts = (): number => events.filter(({ type }) => type === 'process.exited').length
  expect(starts()).toBe(5)
  await systemClock.sleep(1_000)
  expect(starts()).toBe(5)
})

test('a job with restart on-failure is run again as often as it may, and no longer once it has succeeded', async () => {
  const home = makeHome()
  const { processes } = startRoom(home, fast)
  const second = 'if [ -e seen ]; then exit 0; else touch seen; exit 9; fi'
  const outcomes = await processes.apply(
    [
      planCommand('never', ['bash', '-c', 'echo ran; exit 9'], { restart: 'on-failure', retries: 2 }),
      planCommand('second', ['bash', '-c', second], { restart: 'on-failure', working_dir: home }),
    ],
    { signal },
  )
  expect(outcomes.map(({ state }) => state)).toEqual(['failed', 'exited'])
  expect(await readAll(processes, 'never')).toBe('ran\r\n'.repeat(3))
  expect(processes.rows().map(({ restarts }) => restarts)).toEqual([2, 1])
})

test('a service that dies after the agent was started anew comes back without a new plan', async () => {
  const home = makeHome()
  const first = startRoom(home)
  const command = ['bash', '-c', 'echo "value $VALUE"; sleep 1000']
  const plan = [planCommand('service', command, { restart: 'always', env: { VALUE: 'kept' } })]
  await first.processes.apply(plan, { signal })
  await first.leave()
  const { processes } = startRoom(home, fast)
  await processes.adopt({ signal })
  const [pid = 0] = livingProcesses(home, 'service')
  process.kill(processes.row('service').pid ?? pid, 'SIGKILL')
  await until(async () => (await readAll(processes, 'service')) === 'value kept\r\n'.repeat(2))
  await untilState(processes, 'service', 'running')
  expect(processes.row('service').restarts).toBe(1)
})

test('a stop during the pause before a return calls the return off', async () => {
  const { processes } = startRoom(makeHome())
  await processes.apply([planCommand('idle', ['ticker'])], { signal })
  const applied = processes.apply([planCommand('service', ['bash', '-c', 'exit 1'], { restart: 'always' })], {
    signal,
  })
  await until(() => processes.rows().some(({ name, restarts }) => name === 'service' && restarts >= 2))
  await processes.stop('service', { signal })
  expect(await applied).toMatchObject([{ name: 'service', state: 'stopped' }, { name: 'idle' }])
  await systemClock.sleep(2_500)
  expect(processes.row('service').state).toBe('stopped')
})

const fresh: RestartHistory = { exitsMs: [], attempts: 0 }
const failed = { kind: 'exit', success: false } as const
const decide = (restart: 'always' | 'on-failure' | 'never', history: Partial<RestartHistory>, random = 0) =>
  decideRestart(failed, {
    spec: { restart, retries: 3 },
    history: { ...fresh, ...history },
    random: () => random,
  })

test('pauses double from one second to one minute, up to a quarter longer by chance', () => {
  const delays = [0, 1, 2, 3, 4, 5, 6, 7, 50].map((attempts) => decide('always', { attempts }))
  expect(delays).toEqual(
    [1, 2, 4, 8, 16, 32, 60, 60, 60].map((s) => ({ kind: 'restart', delayMs: s * 1_000 })),
  )
  expect(decide('always', {}, 1)).toEqual({ kind: 'restart', delayMs: 1_250 })
})

test.each([
  {
    what: 'a service that ended well',
    restart: 'always',
    end: { kind: 'exit', success: true },
    then: 'restart',
  },
  { what: 'a service that was lost', restart: 'always', end: { kind: 'lost' }, then: 'restart' },
  {
    what: 'a job that ended well',
    restart: 'on-failure',
    end: { kind: 'exit', success: true },
    then: 'finished',
  },
  { what: 'a job that failed', restart: 'on-failure', end: failed, then: 'restart' },
  { what: 'a job that was lost', restart: 'on-failure', end: { kind: 'lost' }, then: 'failed' },
  { what: 'a job that runs once and failed', restart: 'never', end: failed, then: 'failed' },
] as const)('after $what: $then', ({ restart, end, then }) => {
  const options = { spec: { restart, retries: 3 }, history: fresh, random: () => 0 }
  expect(decideRestart(end, options).kind).toBe(then)
})

test('five exits within ten minutes are a crash loop; older ones and five healthy minutes are forgotten', () => {
  const exits = (everyMs: number, count: number): RestartHistory =>
    Array.from({ length: count }, (_, index) => index).reduce(
      (history, index) => addExit(history, { atMs: index * everyMs, ranMs: 1_000 }),
      fresh,
    )
  expect(decide('always', exits(2 * minute, 5)).kind).toBe('crash-looping')
  expect(decide('always', exits(2 * minute, 4)).kind).toBe('restart')
  expect(decide('always', exits(3 * minute, 12)).kind).toBe('restart')
  const healthy = addExit({ exitsMs: [0, 1, 2, 3], attempts: 7 }, { atMs: 6 * minute, ranMs: 5 * minute })
  expect(healthy).toEqual({ exitsMs: [6 * minute], attempts: 0 })
})
