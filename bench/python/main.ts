/*
 * What the guard costs: `node bench/python/main.ts [ENVIRONMENT]`.
 *
 *   shared objects   time and memory of a check of every object of an environment, in a process of its own; without an
 *                    environment one is made of copies of this machine’s libraries and modules, at least 300
 *   plan             a plan that finds nothing wrong, beside a bare `pip install --dry-run` of the same
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makePythonWorld, systemPython, TORCH_BASE } from '../../tests/support/wheels/python-world.ts'
import { median, timeMs } from '../measure.ts'
import type { OneCheck } from './check-once.ts'

const ROUNDS = 5
const WANTED_OBJECTS = 320

const system = systemPython()
if (system.missing !== undefined) throw new Error(system.missing)

const python = system.path
const [given] = process.argv.slice(2)
const made = given === undefined ? mkdtempSync(join(tmpdir(), 'bench-python-')) : undefined
const world = makePythonWorld(TORCH_BASE)
try {
  const site = given === undefined ? fillSite(join(made ?? '', 'site')) : siteOf(given)
  const interpreter = realpathSync(given === undefined ? python : join(given, 'bin', 'python'))
  const rounds = Array.from({ length: ROUNDS }, () => checkOnce(interpreter, site))
  console.log(
    `shared objects   ${rounds[0]?.objects ?? 0} in ${median(rounds.map(({ ms }) => ms)).toFixed(0)} ms (goal 1000 ms), ` +
      `${median(rounds.map(({ megabytes }) => megabytes)).toFixed(0)} MB resident (goal 150 MB); median of ${ROUNDS}`,
  )
  const plans: number[] = []
  const bare: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    plans.push(await timeMs(() => world.plan({ install: [{ spec: 'nodea' }] })))
    const startedMs = performance.now()
    dryRun()
    bare.push(performance.now() - startedMs)
  }
  console.log(
    `plan             ${median(plans).toFixed(0)} ms; bare pip ${median(bare).toFixed(0)} ms; ` +
      `ratio ${(median(plans) / median(bare)).toFixed(2)} (goal 1.5); median of ${ROUNDS}`,
  )
} finally {
  world.close()
  if (made !== undefined) rmSync(made, { recursive: true })
}

function checkOnce(interpreter: string, site: string): OneCheck {
  const layout = {
    interpreter,
    sites: [site],
    hidden: [],
    libraryPath: '',
    numpy: '2.2.6',
    suffixes: [],
    withGpuCode: [],
  }
  const ended = spawnSync(
    process.execPath,
    [join(import.meta.dirname, 'check-once.ts'), JSON.stringify(layout)],
    { encoding: 'utf8' },
  )
  if (ended.status !== 0) throw new Error(ended.stderr)
  return JSON.parse(ended.stdout) as OneCheck
}

function dryRun(): void {
  const folder = world.index
  spawnSync(
    world.interpreter,
    [
      '-m',
      'pip',
      'install',
      '--dry-run',
      '--no-index',
      '--find-links',
      folder,
      '--disable-pip-version-check',
      'nodea',
    ],
    { env: { PATH: process.env['PATH'] } },
  )
}

function siteOf(environment: string): string {
  const lib = join(environment, 'lib')
  const python = readdirSync(lib).find((name) => name.startsWith('python3')) ?? ''
  return join(lib, python, 'site-packages')
}

/** Copies libraries of this machine and modules of its Python until there are enough. */
function fillSite(site: string): string {
  mkdirSync(site, { recursive: true })
  const asked = spawnSync(python, ['-c', 'import sysconfig; print(sysconfig.get_path("platstdlib"))'], {
    encoding: 'utf8',
  })
  const folders = [join(asked.stdout.trim(), 'lib-dynload'), '/usr/lib/x86_64-linux-gnu', '/usr/lib64']
  let count = 0
  for (let copy = 0; count < WANTED_OBJECTS && copy < 20; copy += 1)
    for (const folder of folders)
      for (const name of listObjects(folder)) {
        if (count >= WANTED_OBJECTS) break
        mkdirSync(join(site, `copy${copy}`), { recursive: true })
        copyFileSync(join(folder, name), join(site, `copy${copy}`, name))
        count += 1
      }
  return site
}

function listObjects(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => /\.so(\.|$)/.test(name))
  } catch {
    // Not every system keeps its libraries there.
    return []
  }
}
