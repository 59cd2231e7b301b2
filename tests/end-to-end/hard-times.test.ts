import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { findProgram } from '../../agent/platform/commands.ts'
import type { StatusRecord } from '../../shared/contract/records.ts'
import { EXIT } from '../../shared/contract/errors.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'

/* What the machine can do to an agent that runs: disks that fill, fail or dawdle, clocks that jump, weeks of use. */

const isRoot = process.getuid?.() === 0
const has = (program: string): boolean => findProgram(program, process.env['PATH'] ?? '') !== undefined

const status = async (agent: AgentProcess): Promise<StatusRecord> =>
  JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord

const start = async (home: string, env: Readonly<Record<string, string>> = {}): Promise<AgentProcess> => {
  const agent = await startAgent({ home, env })
  onTestFinished(async () => {
    await agent.kill('SIGKILL')
    // What lies on a disk of its own goes with the disk, which may be beyond writing.
    await removeHome(home).catch(() => undefined)
  })
  return agent
}

const apply = (agent: AgentProcess, manifest: Readonly<Record<string, unknown>>) => {
  const path = join(mkdtempSync(join(tmpdir(), 'gpu-agent-manifest-')), 'm.yaml')
  writeFileSync(path, JSON.stringify({ version: 1, name: 'm', ...manifest }))
  return agent.agentctl(['apply', path])
}
const SLEEPER = { kind: 'command', command: ['sleep', '600'], restart: 'always' }

/** A folder on a file system of its own, which goes with the test. */
const mount = (argv: readonly string[]): string => {
  const folder = makeHome()
  execFileSync('mount', [...argv, folder])
  onTestFinished(() => {
    spawnSync('umount', ['--lazy', folder])
    rmSync(folder, { recursive: true, force: true })
  })
  return folder
}

test.skipIf(!isRoot)(
  'T19: on a disk that fills up the agent still tells its status, says what failed, and goes on when there is room (needs root)',
  async () => {
    const disk = mount(['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs'])
    const agent = await start(join(disk, 'h'))
    expect((await apply(agent, { processes: { sleeper: SLEEPER } })).code).toBe(EXIT.done)
    const filler = join(disk, 'filler')
    expect(spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4k']).status).not.toBe(0)

    const [before] = (await status(agent)).processes
    const refused = await agent.agentctl(['token', 'create', 'x'])
    expect(refused.code).toBe(EXIT.failed)
    expect(refused.stderr).toMatch(/full|space|room/i)
    expect((await agent.agentctl(['events'])).code).toBe(EXIT.done)

    rmSync(filler)
    expect((await agent.agentctl(['token', 'create', 'x'])).code).toBe(EXIT.done)
    expect((await status(agent)).processes[0]).toMatchObject({ pid: before?.pid, state: 'running' })
  },
)

test.skipIf(!isRoot)(
  'an agent that was killed on a full disk starts there, so that what fills it can be stopped; without its ballast it says what to do (needs root)',
  async () => {
    const disk = mount(['-t', 'tmpfs', '-o', 'size=32m', 'tmpfs'])
    const home = join(disk, 'h')
    const first = await start(home)
    expect((await apply(first, { processes: { sleeper: SLEEPER } })).code).toBe(EXIT.done)
    // Laid by the agent itself only where there is far more room than here.
    writeFileSync(join(home, 'state/ballast'), Buffer.alloc(8 * 2 ** 20, 'x'))
    await first.kill('SIGKILL')
    spawnSync('dd', ['if=/dev/zero', `of=${join(disk, 'filler')}`, 'bs=4k'])
    const second = await start(home)
    expect((await status(second)).processes[0]).toMatchObject({ name: 'sleeper', state: 'running' })
    expect((await second.agentctl(['stop', 'sleeper'])).code).toBe(EXIT.done)
    await second.kill('SIGKILL')
    spawnSync('dd', ['if=/dev/zero', `of=${join(disk, 'filler-2')}`, 'bs=4k'])
    await expect(start(home)).rejects.toThrow(/has no room for the agent's state[^]*Free some space there/)
  },
)

const canLoop =
  isRoot && has('mkfs.ext4') && existsSync('/sys/fs/ext4') && spawnSync('losetup', ['--find']).status === 0
test.skipIf(!canLoop)(
  'T21: on a file system that went read-only the agent answers, and what would change it is refused (needs root, ext4 and loop devices)',
  async () => {
    const image = join(mkdtempSync(join(tmpdir(), 'gpu-agent-disk-')), 'disk')
    execFileSync('truncate', ['-s', '64M', image])
    execFileSync('mkfs.ext4', ['-q', image])
    const disk = mount(['-o', 'loop,errors=remount-ro', image])
    const device = execFileSync('findmnt', ['-no', 'SOURCE', disk], { encoding: 'utf8' }).trim()
    const agent = await start(join(disk, 'h'))
    expect((await apply(agent, { processes: { sleeper: SLEEPER } })).code).toBe(EXIT.done)
    const [before] = (await status(agent)).processes
    // The kernel's own way to say that the disk is broken: as after a write that failed.
    writeFileSync(`/sys/fs/ext4/${basename(device)}/trigger_fs_error`, '1')

    expect((await status(agent)).processes[0]).toMatchObject({ pid: before?.pid, state: 'running' })
    expect((await agent.agentctl(['logs', 'sleeper'])).code).toBe(EXIT.done)
    const refused = await agent.agentctl(['token', 'create', 'x', '--json'])
    expect(refused.code).toBe(EXIT.failed)
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'read_only' } })
  },
)

test.skipIf(!has('strace'))(
  'T22: while every write waits half a second for its disk, everybody is answered within the deadline (needs strace)',
  async () => {
    const agent = await start(makeHome())
    const tracer = spawn(
      'strace',
      [
        ...['-f', '-qq', '-e', 'trace=fsync,fdatasync', '-e', 'inject=fsync,fdatasync:delay_enter=500000'],
        ...['-o', '/dev/null', '-p', String(agent.child.pid)],
      ],
      { stdio: 'ignore' },
    )
    onTestFinished(() => void tracer.kill('SIGKILL'))
    await expect.poll(() => tracerOf(agent.child.pid), { timeout: 30_000 }).toBe(tracer.pid)
    for (const name of ['a', 'b', 'c', 'd']) {
      const asked = [
        ['token', 'create', name],
        ['status', '--timeout', '10s'],
        ['ps', '--timeout', '10s'],
      ].map((words) => agent.agentctl(words))
      expect((await Promise.all(asked)).map(({ code }) => code)).toEqual([0, 0, 0])
    }
  },
)

const tracerOf = (pid: number | undefined): number =>
  Number(/^TracerPid:\s*(\d+)/m.exec(execFileSync('cat', [`/proc/${pid}/status`], { encoding: 'utf8' }))?.[1])

const FAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1'
test.skipIf(!existsSync(FAKETIME))(
  'T27: a clock that jumps a month ahead and back again stops nothing and repeats nothing (needs libfaketime)',
  async () => {
    const home = makeHome()
    const clock = join(home, 'clock')
    writeFileSync(clock, '+0')
    const agent = await start(home, {
      LD_PRELOAD: FAKETIME,
      FAKETIME_TIMESTAMP_FILE: clock,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    })
    const out = join(home, 'out')
    mkdirSync(out)
    const applied = await apply(agent, {
      processes: { sleeper: SLEEPER },
      sync: [{ name: 'out', path: out, to: join(home, 'copy'), every: '2s', settle: '1s' }],
      budget: { max_hours: 5, on_limit: 'notify', rate_usd_per_hour: 1 },
    })
    expect(applied.code, applied.stderr).toBe(EXIT.done)
    const [before] = (await status(agent)).processes
    for (const [index, jump] of ['+30d', '-2h', '+0'].entries()) {
      writeFileSync(clock, jump)
      writeFileSync(join(out, `result-${index}.txt`), jump)
      await expect
        .poll(() => existsSync(join(home, 'copy', `result-${index}.txt`)), { timeout: 60_000 })
        .toBe(true)
      const now = await status(agent)
      expect(now.processes[0]).toMatchObject({ pid: before?.pid, restarts: 0, state: 'running' })
      expect(now).toMatchObject({ healthy: true, run: { state: 'ready' } })
      expect(now.budget?.hoursUsed ?? 0).toBeLessThan(1)
      expect(now.budget?.state).toBe('ok')
    }
    // The faked clock was really seen.
    const { stdout } = await agent.agentctl(['events', '--json'])
    const { events } = JSON.parse(stdout) as { events: { at: string }[] }
    const times = events.map(({ at }) => Date.parse(at))
    expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(29 * 24 * 3600 * 1000)
  },
)

test('T51: after weeks of use in a minute descriptors, state and processes are what they were', async () => {
  const home = makeHome()
  const agent = await start(home)
  expect((await apply(agent, { processes: { sleeper: SLEEPER } })).code).toBe(EXIT.done)
  const round = async (times: number): Promise<void> => {
    for (let done = 0; done < times; done += 1) {
      await Promise.all([
        agent.agentctl(['status', '--json']),
        agent.agentctl(['exec', '--', 'true']),
        agent.agentctl(['restart', 'sleeper']),
        agent.agentctl(['events']),
      ])
    }
  }
  const descriptors = (): number => readdirSync(`/proc/${agent.child.pid}/fd`).length
  await round(2)
  await delay(1_000)
  const before = descriptors()
  await round(8)
  await expect.poll(descriptors, { timeout: 30_000 }).toBeLessThanOrEqual(before + 2)
  expect(statSync(join(home, 'state/state.db-wal')).size).toBeLessThan(64 * 2 ** 20)
  // One shim for the process that runs; those of ended ones are gone.
  await expect.poll(() => readdirSync(join(home, 'run')).length, { timeout: 30_000 }).toBeLessThanOrEqual(4)
  // A restarted process is “starting” for a second.
  await expect
    .poll(async () => (await status(agent)).processes[0]?.state, { timeout: 30_000 })
    .toBe('running')
})
