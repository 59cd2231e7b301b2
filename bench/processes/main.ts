/*
 * What a shim costs: `npm run bench:processes`.
 *
 *   memory   resident memory of a shim whose job sleeps, and its share where pages are shared with others
 *   output   how long a program takes for 300 MB of output under a shim, beside the same program in a terminal that is
 *            only read and thrown away; the medians of both, which take turns, because the machine is shared
 *   adoption the longest time from the start of an agent after a SIGKILL until its process is adopted
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../agent/platform/clock.ts'
import { openDatabase } from '../../agent/platform/database.ts'
import { readJobSpec } from '../../agent/processes/job-records.ts'
import { planProcess } from '../../agent/processes/planned-process.ts'
import { createProcesses } from '../../agent/processes/processes.ts'
import { shimMarker } from '../../agent/processes/shim/records.ts'
import { findMarked } from '../../agent/processes/process-tree.ts'
import { ProcessSpec } from '../../shared/manifest/schema.ts'
import { runProgram } from '../../tests/support/agent-process.ts'
import { median } from '../measure.ts'
import { measureAdoption } from './adoption.ts'

const ROUNDS = 9
const OUTPUT_BYTES = 300_000_000
const KILLS = 5
const LIMITS = { rssMiB: 50, slowdownPercent: 10, adoptionSeconds: 3 }

const home = mkdtempSync(join(tmpdir(), 'ga-'))
const { db } = openDatabase(home)
const processes = createProcesses({
  stateFolder: home,
  runFolder: home,
  db,
  clock: systemClock,
  report: () => undefined,
  log: { info: () => undefined, warn: console.warn, error: console.error },
  random: () => 0,
  shimFile: join(import.meta.dirname, '../../dist/shim.cjs'),
})
const { signal } = new AbortController()
const end = new AbortController()
const supervision = Promise.all(processes.services.map((service) => service.run(end.signal)))

/** It times itself, so that the start of a terminal and of a shim are left out on both sides. */
const WRITER = `
import os, sys, time
piece = (b"x" * 99 + b"\\n") * 640
left = ${OUTPUT_BYTES}
began = time.monotonic()
while left > 0:
    left -= os.write(1, piece[:left])
open(sys.argv[1], "w").write(str(time.monotonic() - began))
`
/** A terminal whose other side is read as fast as Python can, and goes nowhere. */
const READER = `
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
try:
    while os.read(fd, 65536):
        pass
except OSError:
    pass
os.waitpid(pid, 0)
`

const seconds = (path: string): number => Number(readFileSync(path, 'utf8'))

const run = async (name: string, command: readonly string[]): Promise<void> => {
  const spec = ProcessSpec.parse({ kind: 'command', command })
  const plan = [planProcess(name, spec, { interpreter: null, binFolder: null, environment: {} })]
  const [outcome] = await processes.apply(plan, { signal })
  if (outcome?.problem) throw new Error(outcome.problem.message)
}

const shimOf = (name: string): number => {
  const spec = readJobSpec(join(home, 'jobs', name))
  return spec ? (findMarked(shimMarker(spec))[0]?.pid ?? 0) : 0
}

const say = (what: string, { value, limit, unit }: { value: number; limit: number; unit: string }): void =>
  console.log(
    `${what.padEnd(28)} ${value.toFixed(1)} ${unit} (limit ${limit} ${unit})  ${value <= limit ? 'PASS' : 'MISS'}`,
  )

try {
  await run('sleeper', ['sleep', '1000'])
  const memory = readFileSync(`/proc/${shimOf('sleeper')}/smaps_rollup`, 'utf8')
  const inMiB = (field: string): number =>
    Number(new RegExp(`^${field}: +(\\d+) kB`, 'm').exec(memory)?.[1]) / 1024
  say('a shim, resident', { value: inMiB('Rss'), limit: LIMITS.rssMiB, unit: 'MiB' })
  // No limit: it falls with every other node that shares the program's pages.
  console.log(`${'its share of them'.padEnd(28)} ${inMiB('Pss').toFixed(1)} MiB`)

  const [withShim, without]: [number[], number[]] = [[], []]
  for (let round = 0; round < ROUNDS; round += 1) {
    const bare = join(home, `bare-${round}`)
    const shimmed = join(home, `shimmed-${round}`)
    const underShim = async (): Promise<void> => {
      await run(`writer-${round}`, ['python3', '-c', WRITER, shimmed])
      while (processes.row(`writer-${round}`).state !== 'exited') await systemClock.sleep(50)
    }
    const thrownAway = (): Promise<unknown> =>
      runProgram(['python3', '-c', READER, 'python3', '-c', WRITER, bare])
    // Each goes first in turn, so that what the one leaves to be written back does not always meet the other.
    for (const one of round % 2 === 0 ? [thrownAway, underShim] : [underShim, thrownAway]) await one()
    withShim.push(seconds(shimmed))
    without.push(seconds(bare))
    console.log(
      `300 MB of output             ${seconds(bare).toFixed(2)} s read and thrown away, ${seconds(shimmed).toFixed(2)} s under a shim`,
    )
  }
  const slower = (median(withShim) / median(without) - 1) * 100
  say('slower by', { value: slower, limit: LIMITS.slowdownPercent, unit: '%' })

  const adopted = await measureAdoption(KILLS)
  say('adopted after a kill', { value: Math.max(...adopted), limit: LIMITS.adoptionSeconds, unit: 's' })
} finally {
  for (const { name } of processes.rows()) await processes.stop(name, { signal })
  end.abort(new Error('done'))
  await supervision
  db.close()
  rmSync(home, { recursive: true, force: true })
}
