import { spawnSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { findProgram } from '../../../agent/platform/commands.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'
import { makeRepository, serveRepositories } from './git-server.ts'

const { missing } = systemPython()
const git = findProgram('git', process.env['PATH'] ?? '')
const lacking = missing ?? (git === undefined ? 'git is not installed' : undefined)

/** A build backend in the repository itself: the wheel says which torch and shelf it met. */
const backend = (name: string, note: string) => `
import importlib.metadata, os, zipfile

def seen(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None

def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = '${name}-1.0.dist-info/'
    files = {
        '${name}/__init__.py': 'NOTE = %r\\nTORCH = %r\\nSHELF = %r\\n' % ('${note}', seen('torch'), seen('shelf')),
        info + 'METADATA': 'Metadata-Version: 2.1\\nName: ${name}\\nVersion: 1.0\\nRequires-Dist: einops\\n',
        info + 'WHEEL': 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n',
    }
    wheel = '${name}-1.0-py3-none-any.whl'
    with zipfile.ZipFile(os.path.join(folder, wheel), 'w') as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(info + 'RECORD', ''.join(path + ',,\\n' for path in [*files, info + 'RECORD']))
    return wheel
`
const project = (requires: string) =>
  `[build-system]\nrequires = [${requires}]\nbuild-backend = "backend"\nbackend-path = ["."]\n`

describe.skipIf(lacking !== undefined)(
  `a build from a repository (${lacking ?? 'with git and python3'})`,
  () => {
    let world: PythonWorld
    let served: string
    let server: Awaited<ReturnType<typeof serveRepositories>>
    let base: string
    beforeAll(async () => {
      world = makePythonWorld(['torch==2.9.1+cu128', 'numpy==2.2.6', 'shelf==1.0'])
      served = join(world.folder, 'served')
      server = await serveRepositories(served)
    })
    afterAll(async () => {
      await server.close()
      world.close()
    })
    beforeEach(() => {
      base = world.digest()
    })
    afterEach(() => {
      expect(world.digest()).toBe(base)
      rmSync(world.context.folder, { recursive: true, force: true })
    })

    const repository = (name: string, requires: string) => {
      const made = makeRepository(served, `${name}.git`)
      made.commit('pyproject.toml', project(requires))
      return {
        commit: (note: string) => made.commit('backend.py', backend(name, note)),
        git: `${server.url}/${name}.git`,
      }
    }
    const apply = async (entry: Record<string, unknown>, more: Record<string, unknown> = {}) => {
      const context = { ...world.context, allowHosts: [server.host] }
      const plan = await world.plan({ install: [entry], ...more })
      const ready = await preparePython(plan, context)
      const say = (expression: string, module: string) =>
        spawnSync(plan.interpreter, ['-c', `import ${module} as m; print(${expression})`], {
          encoding: 'utf8',
        }).stdout.trim()
      return { plan, ready, say }
    }

    test('meets the torch that is there, not a newer one, and brings what it requires (cases 11, 45)', async () => {
      const made = repository('linked', '"torch"')
      const entry = { git: made.git, ref: made.commit('one') }
      const { plan, ready, say } = await apply(entry, { imports: ['linked'] })
      expect(plan.changes).toEqual([{ name: 'linked', from: null, to: `built from ${entry.ref}` }])
      expect(ready.changes.map(({ name }) => name).sort()).toEqual(['einops', 'linked'])
      expect(say('m.TORCH', 'linked')).toBe('2.9.1+cu128')
      expect((await world.plan({ install: [entry] })).changes).toEqual([])
      // Another commit with the same version is another package.
      const next = { git: made.git, ref: made.commit('two') }
      const again = await apply(next)
      expect(again.say('m.NOTE', 'linked')).toBe('two')
      expect(readdirSync(world.context.folder)).toHaveLength(1)
    })

    test('that is isolated gets the protected version too', async () => {
      const made = repository('isolated', '"shelf"')
      const { say } = await apply(
        { git: made.git, ref: made.commit('one'), no_deps: true },
        { protect: ['shelf'] },
      )
      expect(say('m.SHELF, m.TORCH', 'isolated')).toBe('1.0 None')
      expect((await world.plan({ install: [{ spec: 'einops' }] })).changes).toHaveLength(1)
    })

    test('that is not isolated sees what is installed', async () => {
      const made = repository('open', '')
      const entry = { git: made.git, ref: made.commit('one'), no_build_isolation: true, no_deps: true }
      expect((await apply(entry)).say('m.TORCH', 'open')).toBe('2.9.1+cu128')
    })

    test('may not bring a protected package, nor come from anywhere', async () => {
      const made = repository('numpy', '')
      const ref = made.commit('one')
      await expect(apply({ git: made.git, ref })).rejects.toMatchObject({
        code: 'install_failed',
        message: expect.stringMatching(/numpy/) as string,
      })
      await expect(
        preparePython(await world.plan({ install: [{ git: made.git, ref }] }), world.context),
      ).rejects.toMatchObject({ code: 'forbidden_address' })
    })

    test('that fails changes nothing, and a branch is a warning', async () => {
      const made = makeRepository(served, 'failing.git')
      made.commit('pyproject.toml', project(''))
      made.commit('backend.py', 'raise SystemExit("no compiler")\n')
      const entry = { git: `${server.url}/failing.git`, ref: 'main' }
      expect((await world.plan({ install: [entry] })).problems).toMatchObject([
        { code: 'unpinned_ref', severity: 'warning' },
      ])
      await expect(apply(entry)).rejects.toMatchObject({ code: 'install_failed' })
      expect(readdirSync(world.context.folder)).toHaveLength(1)
    })
  },
)
