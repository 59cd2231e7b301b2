import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { preparePython } from '../../agent/python/prepare-python.ts'
import { takeBackInstall } from '../../agent/python/take-back.ts'
import { makeWheel } from '../../tests/support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../tests/support/wheels/python-world.ts'
import { makePythonWorld, TORCH_BASE } from '../../tests/support/wheels/python-world.ts'
import { testUv } from '../../tests/support/wheels/real-wheels.ts'
import { median, timeMs } from '../measure.ts'

const PACKAGE_FILES = 4000
const OVERLAY_FILES = 15_000
const OVERLAY_BYTES = 700e6

/** Milliseconds of a plan by pip, by uv where there is one, and of pip alone. */
export const measurePlans = (
  rounds: number,
): Promise<{ readonly pipMs: number; readonly uvMs: number | null; readonly bareMs: number }> =>
  withWorld(async (world) => {
    const uv = testUv()
    const planMs = (path: string) =>
      timeMs(() =>
        world.plan(
          { install: [{ spec: 'nodea' }] },
          { environment: { ...world.context.environment, PATH: path } },
        ),
      )
    const bare: number[] = []
    const byPip: number[] = []
    const byUv: number[] = []
    // Turn and turn about: whatever else the machine does meets all of them.
    for (let round = 0; round < rounds; round += 1) {
      bare.push(pipMs(world, world.interpreter, '--dry-run', 'nodea'))
      byPip.push(await planMs('/usr/bin:/bin'))
      if (uv.missing === undefined) byUv.push(await planMs(`${uv.folder}:/usr/bin:/bin`))
    }
    return {
      pipMs: median(byPip),
      uvMs: byUv.length === 0 ? null : median(byUv),
      bareMs: median(bare),
    }
  })

/** Milliseconds of an install with plan and proofs, and of a plain pip into an environment of its own. */
export const measureInstalls = (
  rounds: number,
): Promise<{ readonly guardedMs: number; readonly plainMs: number }> =>
  withWorld(async (world) => {
    const guarded: number[] = []
    const plain: number[] = []
    const lines = 'value = 1\n'.repeat(60)
    for (let round = 1; round <= rounds; round += 1) {
      const files = Object.fromEntries(
        Array.from({ length: PACKAGE_FILES }, (_, index) => [`bulk/m${index}.py`, lines]),
      )
      const version = `${round}.0`
      makeWheel({ name: 'bulk', version, files: { ...files, 'bulk/__init__.py': '' } }, world.index)
      const env = join(world.folder, `plain-${round}`)
      spawnSync(world.interpreter, ['-m', 'venv', '--system-site-packages', '--without-pip', env])
      const { base } = await world.plan()
      const runPlain = (): Promise<void> => {
        const to = ['--prefix', env, '--ignore-installed']
        plain.push(pipMs(world, world.interpreter, ...to, `bulk==${version}`))
        return Promise.resolve()
      }
      const runGuarded = async (): Promise<void> => {
        const wishes = { install: [{ spec: `bulk==${version}` }], imports: ['bulk'] }
        guarded.push(await timeMs(async () => preparePython(await world.plan(wishes), world.context)))
      }
      // The first one pays for a cold cache, so they take turns; and each begins with a clean disk, so that the guarded
      // one, which waits for its files to be on disk, does not wait for those of the other.
      for (const run of round % 2 === 0 ? [runPlain, runGuarded] : [runGuarded, runPlain]) {
        spawnSync('sync')
        await run()
      }
      // Each round finds an overlay without the package, as plain pip does.
      await takeBackInstall(base, { ...world.context, id: null })
    }
    return { guardedMs: median(guarded), plainMs: median(plain) }
  })

/** Milliseconds to take back an install into an overlay of 700 MB. */
export const measureRollback = (rounds: number): Promise<number> =>
  withWorld(async (world) => {
    const plan = await world.plan({ install: [{ spec: 'einops' }] })
    await preparePython(await world.plan(), world.context)
    const folder = join(plan.root, 'env', 'large')
    mkdirSync(folder)
    const data = Buffer.alloc(OVERLAY_BYTES / OVERLAY_FILES, 'x')
    for (let index = 0; index < OVERLAY_FILES; index += 1) writeFileSync(join(folder, `f${index}`), data)
    const times: number[] = []
    for (let round = 0; round < rounds; round += 1) {
      await preparePython(plan, world.context)
      times.push(await timeMs(() => takeBackInstall(plan.base, { ...world.context, id: null })))
    }
    return median(times)
  })

const withWorld = async <T>(use: (world: PythonWorld) => Promise<T>): Promise<T> => {
  const world = makePythonWorld(TORCH_BASE)
  try {
    return await use(world)
  } finally {
    world.close()
  }
}

const pipMs = (world: PythonWorld, python: string, ...args: readonly string[]): number => {
  const offline = ['--no-index', '--find-links', world.index, '--disable-pip-version-check']
  const startedMs = performance.now()
  const ended = spawnSync(python, ['-m', 'pip', 'install', '--quiet', ...offline, ...args], {
    env: { PATH: process.env['PATH'] },
    encoding: 'utf8',
  })
  if (ended.status !== 0) throw new Error(ended.stderr)
  return performance.now() - startedMs
}
