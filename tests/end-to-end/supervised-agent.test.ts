import { spawn } from 'node:child_process'
import { cpSync, existsSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { findProgram } from '../../agent/platform/commands.ts'
import { readJobSpec } from '../../agent/processes/job-records.ts'
import { findMarked } from '../../agent/processes/process-tree.ts'
import { jobMarker, shimMarker } from '../../agent/processes/shim/records.ts'
import { repositoryFile } from '../support/agent-process.ts'
import { DIST, makeBox, numbersIn, until } from '../support/built-box.ts'

/* Kills, with the programs as they are released and an agent that supervisord starts again, as on a rented box. */

const SEARCH_PATH = process.env['PATH'] ?? ''
const supervisord = findProgram('supervisord', SEARCH_PATH)

/** Runs an agent in this home under the configuration that is shipped, until the test is over. */
const supervise = (home: string, agentd: string): void => {
  const program = repositoryFile('systemd/agentd.supervisord.conf')
    .replace(/^command=.*$/m, `command=${process.execPath} ${agentd} --home ${home}`)
    .replace(/^environment=.*$/m, `environment=HOME="${home}"`)
    .replace(/^stderr_logfile=.*$/m, `stderr_logfile=${join(home, 'agentd.log')}`)
  // It would take a second kill within a second for a failed start, and wait longer each time.
  const config = `[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=${join(home, 'supervisord.pid')}\n${program}\nstartsecs=0\n`
  writeFileSync(join(home, 'supervisord.conf'), config)
  const daemon = spawn(supervisord ?? '', ['-n', '-c', join(home, 'supervisord.conf')], {
    stdio: 'ignore',
    env: { PATH: SEARCH_PATH },
  })
  const gone = new Promise((resolve) => daemon.once('exit', resolve))
  onTestFinished(async () => {
    daemon.kill('SIGTERM')
    await gone
  })
}

/** A copy of the released programs whose shims begin their work only after a while, as on a busy machine. */
const copyWithSlowShim = (folder: string): string => {
  cpSync(DIST, join(folder, 'dist'), { recursive: true })
  symlinkSync(join(DIST, '../node_modules'), join(folder, 'node_modules'))
  renameSync(join(folder, 'dist/shim.cjs'), join(folder, 'dist/shim-itself.cjs'))
  writeFileSync(join(folder, 'dist/shim.cjs'), "setTimeout(() => require('./shim-itself.cjs'), 3_000)\n")
  return join(folder, 'dist/agentd.js')
}

describe.skipIf(supervisord === undefined)('under supervisord (skipped without it)', () => {
  test('T1: 25 SIGKILLs of agentd: the process keeps its pid, its output has no gap', async () => {
    const { home, agentPid, row, applyTicker, agentctl } = makeBox()
    supervise(home, join(DIST, 'agentd.js'))
    let agent = await until(agentPid)
    expect((await applyTicker()).code).toBe(0)
    const { pid } = await until(() => row('ticker'))
    for (let kills = 0; kills < 25; kills += 1) {
      process.kill(agent, 'SIGKILL')
      agent = await until(() => otherThan(agent, agentPid))
      // Its row is what the last agent left until it has been adopted.
      const adopted = await until(async () => {
        const now = await row('ticker')
        return now?.state === 'running' && now
      })
      expect(adopted).toMatchObject({ pid, restarts: 0, problem: null })
    }
    expect((await agentctl('stop', 'ticker')).code).toBe(0)
    const numbers = numbersIn((await agentctl('logs', 'ticker')).stdout)
    expect(numbers.length).toBeGreaterThan(100)
    expect(numbers).toEqual(numbers.map((_, index) => index))
  })

  test('T2: an agent killed before its shim was ready starts the process once, and goes on with its run', async () => {
    const { home, agentPid, row, agentctl, applyTicker } = makeBox()
    const folder = join(home, 'state/jobs/ticker')
    supervise(home, copyWithSlowShim(join(home, 'release')))
    const agent = await until(agentPid)
    const applied = applyTicker()
    const { jobId } = await until(() => {
      const spec = readJobSpec(folder)
      return Promise.resolve(spec !== undefined && findMarked(shimMarker(spec)).length > 0 && spec)
    })
    process.kill(agent, 'SIGKILL')
    expect(existsSync(join(folder, 'state.json'))).toBe(false)
    await until(() => otherThan(agent, agentPid))
    await applied
    const { pid } = await until(async () => {
      const now = await row('ticker')
      return now?.state === 'running' && now
    })
    expect((await applyTicker()).code).toBe(0)
    expect(await row('ticker')).toMatchObject({ pid, restarts: 0, problem: null })
    expect(readJobSpec(folder)?.jobId).toBe(jobId)
    expect((await agentctl('stop', 'ticker')).code).toBe(0)
    const numbers = numbersIn((await agentctl('logs', 'ticker')).stdout)
    expect(numbers).toEqual(numbers.map((_, index) => index))
  })

  test('T3: a shim killed together with its agent: the process is lost, nothing of it lives, its output is kept, and who applies the manifest starts it anew', async () => {
    const { home, agentPid, row, agentctl, apply } = makeBox()
    const folder = join(home, 'state/jobs/escapes')
    supervise(home, join(DIST, 'agentd.js'))
    const agent = await until(agentPid)
    expect((await apply('escapes')).code).toBe(0)
    const spec = await until(() => Promise.resolve(readJobSpec(folder)))
    const living = (): number => findMarked(jobMarker(spec)).length
    await until(() => Promise.resolve(living() >= 5))
    const first = await row('escapes')
    const state = JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8')) as { shimPid: number }
    process.kill(agent, 'SIGKILL')
    process.kill(state.shimPid, 'SIGKILL')
    await until(() => otherThan(agent, agentPid))
    const lost = await until(async () => {
      const now = await row('escapes')
      return now?.state === 'lost' && now
    })
    expect(lost).toMatchObject({ pid: null, problem: { code: 'process_lost', severity: 'error' } })
    expect(living()).toBe(0)
    expect((await agentctl('logs', 'escapes')).stdout).toContain('started')
    // The run of the start is over as well, and began no job a second time that nobody asked for.
    await until(async () => (await agentctl('status', '--json')).stdout.includes('"state":"failed"'))
    expect((await row('escapes'))?.state).toBe('lost')
    expect((await apply('escapes')).code).toBe(0)
    expect(await row('escapes')).toMatchObject({ state: 'running', problem: null })
    expect((await row('escapes'))?.pid).not.toBe(first?.pid)
  })
})

/** The pid of the agent that answers, once it is another one. */
const otherThan = async (
  before: number,
  agentPid: () => Promise<number | undefined>,
): Promise<number | false> => {
  const now = await agentPid()
  return now !== undefined && now !== before && now
}
