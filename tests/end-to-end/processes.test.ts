import { spawn, spawnSync } from 'node:child_process'
import { cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../agent/platform/clock.ts'
import { openDatabase } from '../../agent/platform/database.ts'
import { planProcess } from '../../agent/processes/planned-process.ts'
import { createProcesses } from '../../agent/processes/processes.ts'
import { ProcessSpec } from '../../shared/manifest/schema.ts'
import { makeHome, removeHome, repositoryFile } from '../support/agent-process.ts'
import { DIST, makeBox, until } from '../support/built-box.ts'

/* What outlives the agent, with the programs as they are released. */

const SEARCH_PATH = process.env['PATH'] ?? ''

test('T5: 200 runs that print 200 KB and exit lose no byte', async () => {
  const home = makeHome()
  onTestFinished(() => removeHome(home))
  const { db } = openDatabase(home)
  const processes = createProcesses({
    ...{ stateFolder: home, runFolder: home, db, clock: systemClock, shimFile: join(DIST, 'shim.cjs') },
    report: () => undefined,
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    random: () => 0,
  })
  const { signal } = new AbortController()
  const end = new AbortController()
  const running = Promise.all(processes.services.map((service) => service.run(end.signal)))
  onTestFinished(async () => {
    end.abort(new Error('the test is over'))
    await running
    db.close()
  })
  const spec = ProcessSpec.parse({ kind: 'command', command: ['head', '-c', '204800', '/dev/zero'] })
  for (let batch = 0; batch < 20; batch += 1) {
    const names = Array.from({ length: 10 }, (_, index) => `run-${batch}-${index}`)
    const context = { interpreter: null, binFolder: null, environment: {} }
    await processes.apply(
      names.map((name) => planProcess(name, spec, context)),
      { signal },
    )
    await until(() => Promise.resolve(names.every((name) => processes.row(name).state === 'exited')))
    for (const name of names) {
      let bytes = 0
      for await (const chunk of processes.logs(name, { signal })) bytes += chunk.bytes.byteLength
      expect(bytes, name).toBe(204_800)
    }
  }
})

test('T11: the shim of one release goes on under the agent of the next, when the first is gone from the disk', async () => {
  const { home, agentPid, row, applyTicker, agentctl } = makeBox()
  const release = (version: string): string => {
    const folder = join(home, 'releases', version)
    cpSync(DIST, join(folder, 'dist'), { recursive: true })
    symlinkSync(join(DIST, '../node_modules'), join(folder, 'node_modules'))
    const agentd = join(folder, 'dist/agentd.js')
    const { version: own } = JSON.parse(repositoryFile('package.json')) as { version: string }
    writeFileSync(
      agentd,
      readFileSync(agentd, 'utf8').replaceAll(JSON.stringify(own), JSON.stringify(version)),
    )
    return agentd
  }
  const start = (agentd: string): (() => Promise<void>) => {
    const child = spawn(process.execPath, [agentd, '--home', home], {
      stdio: 'ignore',
      env: { PATH: SEARCH_PATH, HOME: home },
    })
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    const stop = async (): Promise<void> => {
      child.kill('SIGTERM')
      await gone
    }
    onTestFinished(stop)
    return stop
  }
  const stopFirst = start(release('8.0.0'))
  const first = await until(agentPid)
  expect((await applyTicker()).code).toBe(0)
  const { pid } = await until(() => row('ticker'))
  await stopFirst()
  rmSync(join(home, 'releases/8.0.0'), { recursive: true })
  start(release('9.0.0'))
  await until(async () => ((await agentPid()) ?? first) !== first)
  const adopted = await until(async () => {
    const now = await row('ticker')
    return now?.state === 'running' && now
  })
  expect(adopted).toMatchObject({ pid, restarts: 0 })
  expect((await agentctl('version')).stdout).toContain('9.0.0')
  // What is begun from now on is begun by the shim of the new release.
  expect((await agentctl('restart', 'ticker')).code).toBe(0)
  const again = await until(() => row('ticker'))
  expect(again.pid).not.toBe(pid)
  expect((await agentctl('stop', 'ticker')).code).toBe(0)
})

const unshared = spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true']).status === 0

test.skipIf(!unshared)(
  'T13: an agent that is the first process of its container leaves no zombies and heeds a stop (skipped where unshare may not)',
  async () => {
    const { home, agentPid, applyTicker, row, agentctl } = makeBox()
    const child = spawn(
      'unshare',
      ['--pid', '--fork', '--mount-proc', process.execPath, join(DIST, 'agentd.js'), '--home', home],
      { stdio: 'ignore', env: { PATH: SEARCH_PATH, HOME: home } },
    )
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    onTestFinished(async () => {
      child.kill('SIGKILL')
      await gone
    })
    // It has another name inside; a shell has the first.
    expect(await until(agentPid)).not.toBe(1)
    const [init = 0] = childrenOf(child.pid ?? 0)
    // Each leaves an orphan that ends soon, which the first process inherits.
    const orphans = 'for i in 1 2 3; do (sleep 0.1 &); done; sleep 0.5'
    for (let round = 0; round < 3; round += 1)
      expect((await agentctl('exec', '--', 'bash', '-c', orphans)).code).toBe(0)
    expect((await applyTicker()).code).toBe(0)
    await until(() => row('ticker'))
    await until(() => Promise.resolve(!statesBelow(init).includes('Z')))
    expect(statesBelow(init).length).toBeGreaterThan(1)
    process.kill(init, 'SIGTERM')
    await gone
    expect(child.exitCode).toBe(0)
  },
)

test('T44: an agent whose log has no reader, or lies on a full disk, goes on', async () => {
  const { home, agentPid, applyTicker } = makeBox()
  const start = async (stderr: 'pipe' | 'full'): Promise<void> => {
    const command = `exec "$0" "$1" --home "$2" ${stderr === 'full' ? '2> /dev/full > /dev/full' : ''}`
    const child = spawn('sh', ['-c', command, process.execPath, join(DIST, 'agentd.js'), home], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: SEARCH_PATH, HOME: home },
    })
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    child.stdout.destroy()
    child.stderr.destroy()
    await until(agentPid)
    expect((await applyTicker({ LOG: stderr })).code).toBe(0)
    expect(await agentPid()).toBe(child.pid)
    child.kill('SIGTERM')
    await gone
    expect(child.exitCode).toBe(0)
  }
  await start('pipe')
  await start('full')
})

const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)

const statesBelow = (pid: number): readonly string[] =>
  childrenOf(pid).flatMap((child) => [
    /\) (.)/.exec(readFileSync(`/proc/${child}/stat`, 'utf8'))?.[1] ?? '',
    ...statesBelow(child),
  ])
