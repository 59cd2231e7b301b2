import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { GuardedPython } from '../../../agent/apply/guarded-python.ts'
import { createGuardedPython } from '../../../agent/apply/guarded-python.ts'
import { readSecrets } from '../../../agent/platform/secrets.ts'
import { takeInstallLock } from '../../../agent/python/install-lock.ts'
import { trimKept } from '../../../agent/python/kept-snapshots.ts'
import { makeElf } from '../../support/elf/make-elf.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()

describe.skipIf(missing !== undefined)(
  `the manifest’s Python, by hand (${missing ?? 'with python3'})`,
  () => {
    let world: PythonWorld
    let python: GuardedPython
    let base: string
    const { signal } = new AbortController()
    beforeAll(() => {
      world = makePythonWorld(['torch==2.9.1+cu128', 'numpy==2.2.6'])
      python = createGuardedPython({
        runs: {
          manifest: () => ({
            digest: 'd',
            name: 'demo',
            file: 'demo.yaml',
            allowMissing: [],
            appliedAt: '2026-11-21T10:00:00.000Z',
            text: `version: 1\nname: demo\npython:\n  interpreter: ${world.interpreter}\n  imports: [numpy]\n`,
          }),
        },
        secrets: readSecrets({}, { secrets: '/nowhere' }),
        python: world.context,
        shutdown: signal,
      })
    })
    afterAll(() => world.close())
    beforeEach(() => {
      base = world.digest()
    })
    afterEach(() => expect(world.digest()).toBe(base))
    const root = () => join(world.context.folder, readdirSync(world.context.folder)[0] ?? '')
    const installed = async () =>
      (await python.plan(['einops', 'shelf'], { signal })).changes.map(({ name }) => name)

    test('is installed into, listed and taken back, one install or several', async () => {
      expect(await python.history({ signal })).toEqual([])
      await expect(python.rollBack(null, { signal })).rejects.toMatchObject({ code: 'not_found' })
      const first = await python.install(['einops==0.7.0'], { signal })
      const empty = first?.id ?? ''
      const before = world.digest(join(root(), 'env'))
      const second = await python.install(['einops==0.8.0', 'shelf'], { signal })
      expect(second).toMatchObject({ state: 'committed', canRollBack: true })
      expect(await python.install(['einops==0.8.0'], { signal })).toBe(null)
      expect((await python.history({ signal })).map(({ id, canRollBack }) => [id, canRollBack])).toEqual([
        [second?.id, true],
        [empty, true],
      ])
      expect(await python.rollBack(null, { signal })).toMatchObject({ id: second?.id, state: 'rolled-back' })
      expect(world.digest(join(root(), 'env'))).toBe(before)
      await python.install(['shelf'], { signal })
      await python.rollBack(empty, { signal })
      expect((await installed()).sort()).toEqual(['einops', 'shelf'])
      expect((await python.history({ signal })).map(({ state }) => state)).toEqual(
        Array(3).fill('rolled-back'),
      )
      expect(readdirSync(root()).sort()).toEqual(['env', 'protected.txt'])
      await expect(python.rollBack(empty, { signal })).rejects.toMatchObject({ code: 'not_found' })
    })

    test('is not changed by a refused install; all reasons are told', async () => {
      await expect(python.install(['torch>=2.10', 'numpy<2'], { signal })).rejects.toMatchObject({
        code: 'plan_has_errors',
        problems: [{ subject: 'torch' }, { subject: 'numpy' }],
      })
    })

    test('is changed by one install at a time (case 41)', async () => {
      await python.install(['einops'], { signal })
      const unlock = takeInstallLock(join(root(), 'lock'))
      try {
        await expect(python.install(['shelf'], { signal })).rejects.toMatchObject({ code: 'busy' })
        await expect(python.rollBack(null, { signal })).rejects.toMatchObject({ code: 'busy' })
      } finally {
        unlock()
      }
    })

    test('is looked at: what the image brought is a warning, what an install left is an error (incident B2)', async () => {
      const plugin = makeElf({ needed: ['libmpi.so.40'] })
      makeWheel({ name: 'transport', version: '1.0', files: { 'transport/plugin.so': plugin } }, world.index)
      world.bake('transport')
      base = world.digest()
      const env = world.digest(world.context.folder)
      const check = await python.check({ signal })
      expect(check.problems).toMatchObject([
        { code: 'install_abi_conflict', severity: 'warning', subject: 'transport/plugin.so' },
      ])
      // A distribution's own Python brings no setuptools.
      const protectedNames = check.protected.map(({ name }) => name).filter((name) => name !== 'setuptools')
      expect(protectedNames).toEqual(['numpy', 'pip', 'torch'])
      expect(check.sharedObjects).toBe(1)
      const site = join(root(), 'env/lib', readdirSync(join(root(), 'env/lib'))[0] ?? '', 'site-packages')
      writeFileSync(join(site, 'einops/__init__.py'), 'cut')
      mkdirSync(join(site, '~inops'))
      writeFileSync(join(site, 'broken.so'), makeElf({ undefined: ['nobody_has_this'] }))
      const messages = (await python.check({ signal })).problems
        .filter(({ severity }) => severity === 'error')
        .map(({ message }) => message)
      expect(messages).toEqual([
        'broken.so needs nobody_has_this, which nothing here has',
        expect.stringContaining('~inops was left by an install that did not end'),
        expect.stringContaining('einops/__init__.py has 3 bytes instead of'),
      ])
      await python.rollBack(null, { signal })
      expect((await python.check({ signal })).problems).toEqual(check.problems)
      expect(world.digest(world.context.folder)).not.toBe(env)
    })

    test('is not known before a manifest names it', async () => {
      const none = createGuardedPython({
        runs: { manifest: () => undefined },
        secrets: readSecrets({}, { secrets: '/nowhere' }),
        python: world.context,
        shutdown: signal,
      })
      await expect(none.check({ signal })).rejects.toMatchObject({ code: 'not_found' })
    })
  },
)

test('old snapshots go when there are too many, or when they are too large', async () => {
  const world = mkdtempSync(join(tmpdir(), 'kept-'))
  const keep = async (id: string, bytes: number, limits: { count: number; bytes: number }) => {
    mkdirSync(join(world, `kept-${id}`))
    writeFileSync(join(world, `kept-${id}`, 'data'), Buffer.alloc(bytes))
    await trimKept(world, limits)
    await new Promise((resolve) => setTimeout(resolve, 5))
    return readdirSync(world).sort()
  }
  const ids = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(12)) as [string, string, string, string]
  for (const id of ids.slice(0, 3)) await keep(id, 10, { count: 2, bytes: 1000 })
  expect(readdirSync(world).sort()).toEqual([`kept-${ids[1]}`, `kept-${ids[2]}`])
  expect(await keep(ids[3], 95, { count: 9, bytes: 100 })).toEqual([`kept-${ids[3]}`])
  rmSync(world, { recursive: true })
})
