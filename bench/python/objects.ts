import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { OneCheck } from './check-once.ts'

const WANTED_OBJECTS = 320

/** Checks the shared objects of an environment so often, each time in a process of its own. */
export const checkObjectsOf = (environment: string, rounds: number): readonly OneCheck[] => {
  const interpreter = realpathSync(join(environment, 'bin', 'python'))
  return Array.from({ length: rounds }, () => checkOnce(interpreter, siteOf(environment)))
}

/** The same for an environment that is made of copies of this machine's libraries and modules. */
export const checkMadeObjects = (python: string, rounds: number): readonly OneCheck[] => {
  const folder = mkdtempSync(join(tmpdir(), 'bench-python-'))
  try {
    const site = fillSite(join(folder, 'site'), python)
    return Array.from({ length: rounds }, () => checkOnce(realpathSync(python), site))
  } finally {
    rmSync(folder, { recursive: true })
  }
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

function siteOf(environment: string): string {
  const lib = join(environment, 'lib')
  const python = readdirSync(lib).find((name) => name.startsWith('python3')) ?? ''
  return join(lib, python, 'site-packages')
}

/** Copies libraries of this machine and modules of its Python until there are enough. */
function fillSite(site: string, python: string): string {
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
