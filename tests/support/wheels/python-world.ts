import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { PythonContext } from '../../../agent/python/context.ts'
import type { PythonRequest } from '../../../agent/python/plan-python.ts'
import { planPython } from '../../../agent/python/plan-python.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openDatabase } from '../../../agent/platform/database.ts'
import type { AgentEvent } from '../../../shared/contract/events.ts'
import { Python } from '../../../shared/manifest/schema.ts'
import { makeFakeIndex } from './fake-index.ts'
import { makeWheel } from './make-wheel.ts'

/** A Python 3 with venv and pip, or why there is none. */
export const systemPython = ():
  { readonly path: string; readonly missing?: never } | { readonly missing: string } => {
  for (const name of ['python3', '/usr/bin/python3']) {
    const asked = spawnSync(name, ['-c', 'import sys, venv, ensurepip, pip; print(sys.executable)'], {
      encoding: 'utf8',
    })
    if (asked.status === 0) return { path: asked.stdout.trim() }
  }
  return { missing: 'no python3 with venv, ensurepip and pip is installed' }
}

/** An image's Python with a fake torch in it, an index beside it, and what the room needs. */
export type PythonWorld = {
  readonly folder: string
  /** The base's interpreter. */
  readonly interpreter: string
  readonly index: string
  readonly events: readonly AgentEvent[]
  readonly context: PythonContext
  /** A request as the manifest would give it. */
  request(python?: Record<string, unknown>): PythonRequest
  plan(python?: Record<string, unknown>, context?: Partial<PythonContext>): ReturnType<typeof planPython>
  /** Installs into the base as an image's author would. */
  bake(...specs: readonly string[]): void
  /** Content of every file of the base (`what` left out) or of another folder. */
  digest(what?: string): string
  close(): void
}

/** What the cases call E: a torch built for CUDA 12.8 and what is linked to it. */
export const TORCH_BASE = [
  'torch==2.9.1+cu128',
  'torchvision==0.24.1+cu128',
  'xformers==0.0.33',
  'numpy==2.2.6',
]

export const makePythonWorld = (baked: readonly string[] = TORCH_BASE, { pip = true } = {}): PythonWorld => {
  const system = systemPython()
  if (system.missing !== undefined) throw new Error(system.missing)
  const folder = mkdtempSync(join(tmpdir(), 'python-'))
  const base = join(folder, 'base')
  const index = join(folder, 'index')
  const interpreter = join(base, 'bin', 'python')
  makeFakeIndex(index)
  makeWheel({ name: 'shelf', version: '1.0' }, index)
  makeWheel({ name: 'shelf', version: '2.0' }, index)
  run([system.path, '-m', 'venv', '--without-pip', base])
  if (pip) copyPip(system.path, base)
  const bake = (...specs: readonly string[]): void => {
    const offline = [
      '--no-index',
      '--find-links',
      index,
      '--no-deps',
      '--quiet',
      '--disable-pip-version-check',
    ]
    run([interpreter, '-m', 'pip', 'install', ...offline, ...specs])
  }
  if (baked.length > 0) bake(...baked)
  mkdirSync(join(folder, 'state'))
  const { db } = openDatabase(join(folder, 'state'))
  const events: AgentEvent[] = []
  const known = new Map<string, { mark: string; hash: string }>()
  const context: PythonContext = {
    folder: join(folder, 'state', 'python'),
    db,
    clock: systemClock,
    report: (event) => events.push(event),
    log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    environment: { PATH: process.env['PATH'], HOME: folder, PIP_NO_INDEX: '1', PIP_FIND_LINKS: index },
    readPipConfig: false,
    signal: new AbortController().signal,
  }
  const request = (python: Record<string, unknown> = {}): PythonRequest =>
    Python.parse({ interpreter, ...python })
  return {
    folder,
    interpreter,
    index,
    events,
    context,
    request,
    plan: (python, changed) => planPython(request(python), { ...context, ...changed }),
    bake,
    digest: (what = base) => digestFolder(what, known),
    close: () => {
      db.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Gives a virtual environment the pip of another Python: copying takes a tenth of what installing takes. */
const copyPip = (python: string, base: string): void => {
  const asked = spawnSync(python, ['-c', 'import pip; print(pip.__path__[0])'], { encoding: 'utf8' })
  const from = dirname(asked.stdout.trim())
  const lib = join(base, 'lib')
  const site = join(lib, readdirSync(lib).find((name) => name.startsWith('python')) ?? '', 'site-packages')
  for (const name of readdirSync(from))
    if (
      /^(pip|setuptools|pkg_resources|_distutils_hack|distutils-precedence\.pth)(-.*\.dist-info)?$/.test(name)
    )
      cpSync(join(from, name), join(site, name), { recursive: true, preserveTimestamps: true })
}

const run = (argv: readonly string[]): void => {
  const [program = '', ...args] = argv
  const ended = spawnSync(program, args, { encoding: 'utf8', env: { PATH: process.env['PATH'] } })
  if (ended.status !== 0) throw new Error(`${argv.join(' ')} failed: ${ended.stderr}`)
}

/** Path and content of everything in a folder, compiled files included. What `known` has unchanged is not read again. */
const digestFolder = (folder: string, known: Map<string, { mark: string; hash: string }>): string => {
  const contentOf = (path: string): string => {
    const { size, mtimeNs, ctimeNs, ino } = lstatSync(path, { bigint: true })
    const mark = [size, mtimeNs, ctimeNs, ino].join(' ')
    const before = known.get(path)
    if (before?.mark === mark) return before.hash
    const made = createHash('sha256').update(readFileSync(path)).digest('hex')
    known.set(path, { mark, hash: made })
    return made
  }
  const hash = createHash('sha256')
  const visit = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const child = join(path, entry.name)
      hash.update(child.slice(folder.length))
      if (entry.isDirectory()) visit(child)
      else if (entry.isSymbolicLink()) hash.update(readlinkSync(child))
      else hash.update(contentOf(child))
    }
  }
  visit(folder)
  return hash.digest('hex')
}
