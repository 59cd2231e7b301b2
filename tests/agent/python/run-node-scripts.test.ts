import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PythonPlan } from '../../../agent/python/plan-python.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import { runNodeScripts } from '../../../agent/python/run-node-scripts.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()

describe.skipIf(missing !== undefined)(`install.py of custom nodes (${missing ?? 'with python3'})`, () => {
  let world: PythonWorld
  let plan: PythonPlan
  let base: string
  let nodesFolder: string
  beforeAll(async () => {
    world = makePythonWorld(['torch==2.9.1+cu128', 'numpy==2.2.6', 'shelf==1.0'])
    nodesFolder = join(world.folder, 'custom_nodes')
    plan = await world.plan()
    await preparePython(plan, world.context)
    base = world.digest()
  })
  afterAll(() => world.close())
  const node = (name: string, script: string, optional = false) => {
    mkdirSync(join(nodesFolder, name), { recursive: true })
    writeFileSync(join(nodesFolder, name, 'install.py'), script)
    return { git: `https://example.com/${name}.git`, ref: 'a'.repeat(40), optional }
  }
  const pip = (...args: string[]) =>
    `import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', *${JSON.stringify(args)}])\n`
  const run = (...nodes: ReturnType<typeof node>[]) =>
    runNodeScripts(nodes, { ...world.context, plan, nodesFolder })
  const said = (code: string) =>
    spawnSync(plan.interpreter, ['-B', '-c', code], { encoding: 'utf8' }).stdout.trim()

  test('installs into the overlay, once; one that fails is named, and the others go on (case 38)', async () => {
    const ran = join(world.folder, 'ran')
    const nodes = [
      node('greedy', pip('torch==2.10.0'), true),
      node('good', `open(${JSON.stringify(ran)}, 'a').write('once ')\n${pip('einops')}`),
    ]
    const problems = await run(...nodes)
    expect(problems).toMatchObject([{ code: 'custom_node_failed', severity: 'warning', subject: 'greedy' }])
    expect(said('import einops, torch; print(einops.__version__, torch.__version__)')).toBe(
      '0.8.0 2.9.1+cu128',
    )
    await run(...nodes)
    expect(readFileSync(ran, 'utf8')).toBe('once ')
    expect(world.digest()).toBe(base)
  })

  test('that goes around the constraints, or breaks the image’s packages, is taken back', async () => {
    const env = world.digest(join(plan.root, 'env'))
    const around = `import os\nos.environ.pop('PIP_CONSTRAINT')\n${pip('--no-deps', 'torch==2.10.0')}`
    const [blocked, broken] = await run(node('around', around), node('broken', 'raise SystemExit("no")\n'))
    expect(blocked).toMatchObject({ severity: 'error', subject: 'around' })
    expect(blocked?.message).toContain('torch 2.9.1+cu128 became 2.10.0')
    expect(broken?.message).toBe('install.py of broken: it ended with 1: no')
    expect(world.digest(join(plan.root, 'env'))).toBe(env)
    expect(world.digest()).toBe(base)
  })

  test('that writes into the image is found out, with the file (case 39)', async () => {
    const file = said('import shelf; print(shelf.__file__)')
    const before = readFileSync(file, 'utf8')
    const problems = await run(node('writer', `open(${JSON.stringify(file)}, 'a').write('# drift')\n`))
    expect(problems[0]?.message).toContain(file)
    writeFileSync(file, before)
  })
})
