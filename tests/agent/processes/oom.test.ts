import { afterAll, expect, test } from 'vitest'
import { makeMemoryCgroup } from '../../support/memory-cgroup.ts'
import { isAlive, makeHome, planCommand, shimPid, spawnRoom, until } from './kit.ts'

/** Enough for the agent's part and the shim, in sources, with room for a job that has not gone wrong yet. */
const LIMIT_BYTES = 400 * 2 ** 20
const GROW = 'x = []\nwhile True: x.append(bytearray(20_000_000))'

const cgroup = makeMemoryCgroup(LIMIT_BYTES)
afterAll(() => cgroup?.remove())

test.skipIf(cgroup === undefined).each([
  { who: 'a job', command: ['python3', '-c', GROW], told: 'job ended with SIGKILL, because memory ran out' },
  {
    who: 'a child of a job',
    command: ['bash', '-c', `python3 -c '${GROW}'; exit 5`],
    told: 'job ended with status 5, after memory ran out',
  },
])(
  'T14: when memory runs out $who is killed and that is told; the agent and the shims go on (skipped where no cgroup can be made)',
  async ({ command, told }) => {
    const home = makeHome()
    const plan = [planCommand('other', ['sleep', '1000']), planCommand('job', command)]
    const room = await spawnRoom(home, { plan, until: 'settled', cgroup: cgroup?.folder ?? '' })
    const ends = () =>
      room.lines().filter(({ type, subject }) => type === 'process.exited' && subject === 'job')
    await until(() => ends().length > 0)
    expect(ends()).toMatchObject([{ data: { oom: true } }])
    await until(() => room.lines().some(({ subject, data }) => subject === 'job' && isFailed(data)))
    await room.kill()
    expect(isAlive(shimPid(home, 'other'))).toBe(true)
    const again = await spawnRoom(home, { plan: [], until: 'adopted' })
    const rows = again.lines().find(({ type }) => type === 'adopted')?.['rows']
    expect(rows).toMatchObject([
      { name: 'other', state: 'running' },
      { name: 'job', state: 'failed', problem: { message: expect.stringContaining(told) as string } },
    ])
  },
)

const isFailed = (data: unknown): boolean => (data as { state?: string } | undefined)?.state === 'failed'
