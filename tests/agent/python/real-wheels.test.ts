import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { readElf } from '../../../agent/python/abi/read-elf.ts'
import type { ElfSymbols } from '../../../agent/python/abi/read-symbols.ts'
import { readSymbols } from '../../../agent/python/abi/read-symbols.ts'
import { listWheels } from '../../../agent/python/read-wheel.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import { withZip } from '../../../agent/python/zip-archive.ts'
import { makeElf } from '../../support/elf/make-elf.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld } from '../../support/wheels/python-world.ts'
import { readFromWheel, realWheels, testUv } from '../../support/wheels/real-wheels.ts'

const uv = testUv()
const vision = realWheels('torchvision==0.24.1', 'torchvision==0.25.0', 'nvidia-cuda-runtime-cu12==12.8.90')
const lacking = uv.missing ?? vision.missing ?? (process.arch === 'x64' ? undefined : 'x86-64 wheels')

/**
 * torch 2.9.1 weighs 900 MB. What torchvision touches of it between versions is in libc10 and libc10_cuda: those are
 * the real ones. Its three large libraries are stand-ins that export whatever the torchvision made for it asks them.
 */
const bakeTorch = async (world: PythonWorld, wheels: string, uvPath: string): Promise<void> => {
  const real = ['torch/lib/libc10.so', 'torch/lib/libc10_cuda.so', 'torch/version.py']
  const files = await readFromWheel('torch==2.9.1', real, uvPath)
  const folder = mkdtempSync(join(tmpdir(), 'torch-'))
  const symbolsOf = (name: string, bytes: Buffer): ElfSymbols => {
    writeFileSync(join(folder, name), bytes)
    const reading = readElf(join(folder, name))
    if (reading.state !== 'object') throw new Error(`${name} is ${reading.state}`)
    return readSymbols(reading.object)
  }
  const exporting = real
    .filter((name) => name.endsWith('.so'))
    .map((name) => symbolsOf('real.so', files[name] ?? Buffer.alloc(0)))
  const wheel = (await listWheels(wheels)).find(({ path }) => path.includes('torchvision-0.24.1'))
  const wanted = new Set<string>()
  await withZip(wheel?.path ?? '', async (zip) => {
    for (const entry of zip.entries.filter(({ name }) => /^torchvision\/\w+\.so$/.test(name)))
      for (const { name, version } of symbolsOf('vision.so', await zip.read(entry)).wanted())
        if (version === undefined && /^_Z|^THP/.test(name)) wanted.add(name)
  })
  rmSync(folder, { recursive: true })
  const isReal = (name: string) => exporting.some((symbols) => symbols.versionsOf(name) !== undefined)
  const exports = [...wanted].filter((name) => !isReal(name))
  const standIns: Record<string, Uint8Array> = {}
  for (const name of ['libtorch_cpu.so', 'libtorch.so', 'libtorch_cuda.so', 'libtorch_python.so'])
    standIns[`torch/lib/${name}`] = makeElf({
      soname: name,
      exports: name === 'libtorch_cpu.so' ? exports : [],
    })
  makeWheel(
    {
      name: 'torch',
      version: '2.9.1',
      files: { ...files, ...standIns, 'torch/__init__.py': '' },
    },
    world.index,
  )
  for (const { name, path } of await listWheels(wheels)) if (name.startsWith('nvidia-')) world.bake(path)
  world.bake('torch===2.9.1')
}

describe.skipIf(lacking !== undefined)(
  `torchvision of the package index beside torch 2.9.1 (${lacking ?? 'downloaded'})`,
  () => {
    let world: PythonWorld
    let before: string
    const uvFolder = uv.missing === undefined ? uv.folder : ''
    const folder = vision.missing === undefined ? vision.folder : ''
    const context = () => ({
      ...world.context,
      environment: {
        ...process.env,
        PATH: `${uvFolder}:${process.env['PATH'] ?? ''}`,
        PIP_FIND_LINKS: folder,
      },
      readPipConfig: true,
    })
    const install = (spec: string, noDeps: boolean) =>
      world.plan({ install: [{ spec, no_deps: noDeps }] }, context())
    beforeAll(async () => {
      world = makePythonWorld(['numpy==2.2.6'])
      await bakeTorch(world, folder, join(uvFolder, 'uv'))
      before = world.digest()
    })
    afterAll(() => world.close())
    afterEach(() => expect(world.digest()).toBe(before))

    test('built for torch 2.10 is refused before anything changes, and the missing symbol is named', async () => {
      const plan = await install('torchvision==0.25.0', true)
      expect(plan.problems).toEqual([])
      const refusal = preparePython(plan, context())
      await expect(refusal).rejects.toMatchObject({
        code: 'install_abi_conflict',
        hint: expect.stringContaining('take a version built for torch 2.9.1') as string,
      })
      const { problems = [] } = (await refusal.catch((error: unknown) => error)) as {
        problems?: readonly { message: string }[]
      }
      const said = problems.map(({ message }) => message).join('\n')
      expect(said).toMatch(/torchvision\/_C\.so needs .*_ZN/)
      expect(said).toContain('_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_jb')
      expect(world.events.map(({ type }) => type)).not.toContain('python.rolled-back')
    })

    test('that is newer and wants a newer torch is blocked, with the requirement', async () => {
      const plan = await install('torchvision>=0.25,<0.26', false)
      expect(plan.changes).toEqual([])
      expect(plan.problems).toMatchObject([{ code: 'install_blocked', subject: 'torch' }])
      expect(plan.problems[0]?.message).toMatch(
        /torch 2\.9\.1 → 2\.10\.0 because torchvision 0\.25\.0 requires torch==2\.10\.0/,
      )
    })

    test('built for torch 2.9 is installed: nothing is found that is not there', async () => {
      const plan = await install('torchvision==0.24.1', true)
      expect((await preparePython(plan, context())).changes).toMatchObject([{ to: '0.24.1' }])
    })
  },
)

const arrays = realWheels('numpy==2.2.6', 'scipy==1.11.4', 'scipy==1.15.3')

describe.skipIf(arrays.missing !== undefined)(
  `scipy of the package index beside numpy 2 (${arrays.missing ?? 'downloaded'})`,
  () => {
    let world: PythonWorld
    const environment = () => ({
      ...world.context.environment,
      PIP_FIND_LINKS: arrays.missing === undefined ? arrays.folder : '',
    })
    const apply = async (spec: string) => {
      const context = { ...world.context, environment: environment() }
      const plan = await world.plan(
        { install: [{ spec, no_deps: true }], imports: ['scipy.linalg'] },
        context,
      )
      expect(plan.problems).toEqual([])
      return preparePython(plan, context)
    }
    beforeAll(async () => {
      world = makePythonWorld([])
      const wheels = await listWheels(environment().PIP_FIND_LINKS)
      for (const { name, path } of wheels) if (name === 'numpy') world.bake(path)
    })
    afterAll(() => world.close())

    test('compiled for numpy 1 is refused (case 25)', async () => {
      await expect(apply('scipy==1.11.4')).rejects.toMatchObject({
        code: 'install_abi_conflict',
        message: expect.stringMatching(/^scipy\/.*was compiled for numpy<2, and numpy is 2\.2\.6/) as string,
      })
    })

    test('compiled for numpy 2 fits and imports: nothing is found that is not there', async () => {
      expect((await apply('scipy==1.15.3')).changes).toMatchObject([{ to: '1.15.3' }])
    })
  },
)
