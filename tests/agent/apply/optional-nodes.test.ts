import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { bringEnvironment } from '../../../agent/apply/bring-environment.ts'
import { planEnvironment } from '../../../agent/apply/plan-environment.ts'
import type { Rooms } from '../../../agent/apply/rooms.ts'
import { findProgram } from '../../../agent/platform/commands.ts'
import { cloneCustomNodes } from '../../../agent/python/custom-nodes.ts'
import { planPython } from '../../../agent/python/plan-python.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import { runNodeScripts } from '../../../agent/python/run-node-scripts.ts'
import { Manifest } from '../../../shared/manifest/schema.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'
import { makeRepository, serveRepositories } from '../python/git-server.ts'

const git = findProgram('git', process.env['PATH'] ?? '') ?? ''
const missing = systemPython().missing ?? (git === '' ? 'no git' : undefined)

describe.skipIf(missing !== undefined)(
  `custom nodes that ask for packages (${missing ?? 'with git'})`,
  () => {
    let world: PythonWorld
    let base: string
    let server: Awaited<ReturnType<typeof serveRepositories>>
    beforeAll(async () => {
      world = makePythonWorld(['torch==2.9.1+cu128', 'numpy==2.2.6'])
      const files = { 'shelf/__init__.py': '# another shelf\n' }
      makeWheel({ name: 'shelf-gpu', version: '3.0', files }, world.index)
      base = world.digest()
      server = await serveRepositories(join(world.folder, 'served'))
    })
    afterAll(async () => {
      await server.close()
      world.close()
    })
    afterEach(() => expect(world.digest()).toBe(base))

    const rooms = (): Pick<Rooms, 'python'> => ({
      python: {
        plan: (request, { signal }) => planPython(request, { ...world.context, signal }),
        prepare: (plan, { signal }) => preparePython(plan, { ...world.context, signal }),
        packages: () => Promise.resolve([]),
        runScripts: (nodes, of) => runNodeScripts(nodes, { ...world.context, ...of }),
        cloneNodes: (nodes, { signal, folder }) =>
          cloneCustomNodes(nodes, { ...world.context, folder, git, allowHosts: [server.host], signal }),
      },
    })
    /** A box whose nodes ask for these; a name with a question mark is optional. */
    const boxOf = (name: string, nodes: Readonly<Record<string, string>>) => {
      const custom_nodes = Object.entries(nodes).map(([given, lines]) => {
        const node = given.replace('?', '')
        const repository = makeRepository(join(world.folder, 'served', name), `${node}.git`)
        repository.commit('install.py', `open('ran', 'w').close()\n`)
        const ref = repository.commit('requirements.txt', lines)
        return { git: `${server.url}/${name}/${node}.git`, ref, optional: given.endsWith('?') }
      })
      const working_dir = join(world.folder, name)
      const manifest = Manifest.parse({
        version: 1,
        name,
        python: {
          interpreter: world.interpreter,
          // As every example has it: it finds the files of the optional nodes too.
          requirements: [join(working_dir, 'custom_nodes/*/requirements.txt')],
        },
        processes: { comfyui: { kind: 'comfyui', working_dir } },
        custom_nodes,
      })
      const nodes_ = join(working_dir, 'custom_nodes')
      return {
        manifest,
        scriptsRun: () => readdirSync(nodes_).filter((node) => existsSync(join(nodes_, node, 'ran'))),
        apply: async () => {
          const context = { rooms: rooms(), signal: world.context.signal }
          const { plan } = await planEnvironment(manifest, context)
          return bringEnvironment({ manifest, plan }, context)
        },
      }
    }
    const installed = async () =>
      (await world.plan({ install: [{ spec: 'einops' }, { spec: 'shelf' }] })).changes.map(({ name }) => name)

    test('go without them where they are optional and cannot have them: each is named with its reason, and the rest go on', async () => {
      const box = boxOf('mixed', {
        steady: 'shelf<2',
        'pack?': 'nodeb\n',
        'clash?': 'shelf>=2\n',
        'packed?': 'einops',
        'clobber?': 'shelf-gpu',
      })
      const { ready, problems } = await box.apply()
      expect(ready).not.toBeNull()
      expect(problems.map(({ code, severity, subject }) => [code, severity, subject])).toEqual([
        ['custom_node_failed', 'warning', 'pack'],
        ['custom_node_failed', 'warning', 'clash'],
        ['custom_node_failed', 'warning', 'clobber'],
      ])
      const said = problems.map(({ message }) => message)
      expect(said[0]).toMatch(
        /^pack goes without its packages: torch .* because nodeb 1.0 requires torch>=2.10/,
      )
      expect(said[1]).toMatch(
        /steady\/requirements.txt:1: shelf<2 excludes shelf>=2 .*clash\/requirements.txt:1/,
      )
      expect(said[2]).toContain('shelf-gpu would overwrite 1 file of shelf')
      expect(await installed()).toEqual([])
      // The script of a node without its packages would only bring them by another way.
      expect(box.scriptsRun()).toEqual(['packed', 'steady'])
      // A plan of the same tells the same, now that the nodes are there.
      const planned = await planEnvironment(box.manifest, { rooms: rooms(), signal: world.context.signal })
      expect(planned.problems.map(({ subject }) => subject)).toEqual(['pack', 'clash'])
    })

    test('fail the run where they are required, whatever optional nodes there are', async () => {
      const box = boxOf('strict', { wanted: 'nodeb', 'other?': 'nodec' })
      const { ready, problems } = await box.apply()
      expect(ready).toBeNull()
      expect(problems.filter(({ severity }) => severity === 'error')).toMatchObject([
        { code: 'install_blocked', subject: 'torch' },
        { code: 'install_blocked', subject: 'numpy' },
      ])
    })
  },
)
