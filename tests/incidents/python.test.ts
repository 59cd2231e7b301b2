import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { checkPython } from '../../agent/python/check-python.ts'
import { inspectPython } from '../../agent/python/inspect-python.ts'
import { preparePython } from '../../agent/python/prepare-python.ts'
import { makeElf } from '../support/elf/make-elf.ts'
import { makeWheel } from '../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../support/wheels/python-world.ts'

const { missing } = systemPython()
const skip = missing !== undefined || process.arch !== 'x64'
const CHECK = '_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_'

/** A box with a CUDA torch, as the incidents found it. */
describe.skipIf(skip)(`Python environments that broke (${missing ?? 'with python3 on x86-64'})`, () => {
  let world: PythonWorld
  let before: string
  let suffix: string
  beforeAll(async () => {
    world = makePythonWorld([])
    const libraries = {
      'torch/lib/libc10_cuda.so': makeElf({ soname: 'libc10_cuda.so', exports: [`${CHECK}jb`] }),
    }
    const files = { 'torch/__init__.py': '', 'torch/version.py': "cuda = '12.8'\n", ...libraries }
    makeWheel({ name: 'torch', version: '2.9.1+cu128', files }, world.index)
    world.bake('torch===2.9.1+cu128', 'numpy==2.2.6')
    suffix = (await inspectPython(world.interpreter, { signal: world.context.signal })).suffixes[0] ?? ''
    before = world.digest()
  })
  afterAll(() => world.close())
  afterEach(() => expect(world.digest()).toBe(before))

  test('A2: an extension for another torch is refused before anything changes, with the symbol', async () => {
    const core = makeElf({ module: 'core', needed: ['libc10_cuda.so'], undefined: [`${CHECK}ib`] })
    const files = { 'engine/__init__.py': 'import engine.core\n', [`engine/core${suffix}`]: core }
    makeWheel({ name: 'engine', version: '1.0', files }, world.index)
    const plan = await world.plan({ install: [{ spec: 'engine' }], imports: ['engine'] })
    expect(plan.problems).toEqual([])
    await expect(preparePython(plan, world.context)).rejects.toMatchObject({
      code: 'install_abi_conflict',
      message: expect.stringMatching(
        /engine\/core.*c10_cuda_check_implementation.*libc10_cuda\.so has/,
      ) as string,
    })
    expect(world.events.map(({ type }) => type)).not.toContain('python.rolled-back')
  })

  test('B1: a requirements file that would exchange torch is refused with file, line and cause', async () => {
    const file = join(world.folder, 'requirements.txt')
    writeFileSync(file, 'numpy\nnodeb\n')
    const plan = await world.plan({ requirements: [file] })
    expect(plan.problems).toMatchObject([
      { code: 'install_blocked', subject: 'torch', at: { file, line: 2 } },
    ])
    expect(plan.problems[0]!.message).toContain('nodeb 1.0 requires torch>=2.10')
  })

  test('B2: looking and planning change nothing, neither in the image nor in the overlay', async () => {
    await preparePython(await world.plan({ install: [{ spec: 'einops==0.7.0' }] }), world.context)
    const state = world.digest(world.context.folder)
    await checkPython(world.request(), world.context)
    await world.plan({ install: [{ spec: 'nodea' }, { spec: 'torch>=2.10' }] })
    expect(world.digest(world.context.folder)).toBe(state)
  })

  test('B5: a module that is missing at run time is found now, and the install is taken back', async () => {
    const files = { 'node/__init__.py': 'import natsort\n' }
    makeWheel({ name: 'node', version: '1.0', files }, world.index)
    const plan = await world.plan({ install: [{ spec: 'node' }], imports: ['node'] })
    await expect(preparePython(plan, world.context)).rejects.toMatchObject({
      code: 'import_failed',
      message: "import node: ModuleNotFoundError: No module named 'natsort'",
    })
    expect((await world.plan({ install: [{ spec: 'node' }] })).changes).toHaveLength(1)
  })
})
