/*
 * Installs a plan of the world and kills itself: argv are the world's folder, the overlay's folder, the plan's name, and
 * a point of the work or a number of milliseconds.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openDatabase } from '../../../agent/platform/database.ts'
import type { PythonContext } from '../../../agent/python/context.ts'
import type { PythonPlan } from '../../../agent/python/plan-python.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'

const [folder = '', root = '', name = '', point = ''] = process.argv.slice(2)
const site = join(root, 'env', 'lib', readdirSync(join(root, 'env', 'lib'))[0]!, 'site-packages')
const inRoot = (start: string) => readdirSync(root).some((name) => name.startsWith(start))
const inSite = (name: string) => existsSync(join(site, name))
const POINTS: Readonly<Record<string, () => boolean>> = {
  'the wheels are fetched': () => inRoot('wheels'),
  'the snapshot is made': () => inRoot('kept-'),
  'the journal is written': () => inRoot('journal'),
  'the old version is being removed': () => !inSite('einops-0.7.0.dist-info/METADATA'),
  'the new files are half there': () => inSite('bulky/m700.py'),
  'pip is nearly done': () => inSite('bulky-1.0.dist-info/RECORD'),
  'the imports are proven': () =>
    inRoot('journal') && readdirSync(join(root, '..')).some((name) => name.startsWith('scratch-')),
}
const context: PythonContext = {
  folder: join(folder, 'state', 'python'),
  db: openDatabase(join(folder, 'state-of-the-dying')).db,
  clock: systemClock,
  report: () => undefined,
  log: { info: () => undefined, warn: () => undefined, error: () => undefined },
  environment: { PATH: process.env['PATH'], PIP_NO_INDEX: '1', PIP_FIND_LINKS: join(folder, 'index') },
  readPipConfig: false,
  signal: new AbortController().signal,
}
const plan = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as PythonPlan
const die = (): void => void process.kill(process.pid, 'SIGKILL')
const isReached = POINTS[point]
if (isReached === undefined) setTimeout(die, Number(point))
else
  setInterval(() => {
    if (isReached()) die()
  }, 1)
await preparePython(plan, context)
process.stdout.write('installed\n')
process.exit(0)
