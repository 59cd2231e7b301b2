import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { checkWheels } from '../../../agent/python/check-wheels.ts'
import type { PythonFacts } from '../../../agent/python/inspect-python.ts'
import { inspectPython } from '../../../agent/python/inspect-python.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import type { PlannedDist } from '../../../agent/python/resolution.ts'
import { withZip } from '../../../agent/python/zip-archive.ts'
import type { ElfOptions } from '../../support/elf/make-elf.ts'
import { makeElf } from '../../support/elf/make-elf.ts'
import { gpuSection } from '../../support/elf/sections.ts'
import type { WheelOptions } from '../../support/wheels/make-wheel.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()
const skip = missing !== undefined || process.arch !== 'x64'

const CHECK = '_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_'
const READABLE = 'c10::cuda::c10_cuda_check_implementation'

describe.skipIf(skip)(`the content of wheels (${missing ?? 'with python3 on x86-64'})`, () => {
  let world: PythonWorld
  let facts: PythonFacts
  let wheels: string
  let suffix: string
  let digest: string
  beforeAll(async () => {
    world = makePythonWorld([])
    makeWheel(
      {
        name: 'torch',
        version: '2.14.1',
        files: {
          'torch/__init__.py': "__version__ = '2.14.1+cu130'\n",
          'torch/version.py': "__version__ = '2.14.1+cu130'\ncuda: Optional[str] = '13.0'\n",
          'torch/lib/libc10_cuda.so': makeElf({ soname: 'libc10_cuda.so', exports: [`${CHECK}jb`] }),
          'torch/lib/libcudart.so.13': makeElf({ soname: 'libcudart.so.13', exports: ['cudaMalloc'] }),
        },
      },
      world.index,
    )
    // What is broken to begin with, as in every real environment.
    const plugin = makeElf({ needed: ['libmpi.so.40'] })
    makeWheel({ name: 'transport', version: '1.0', files: { 'transport/plugin.so': plugin } }, world.index)
    world.bake('torch===2.14.1', 'transport', 'numpy==2.2.6')
    facts = await inspectPython(world.interpreter, { signal: world.context.signal })
    suffix = facts.suffixes[0] ?? ''
    wheels = join(world.folder, 'fetched')
  })
  afterAll(() => world.close())
  beforeEach(() => {
    mkdirSync(wheels)
    digest = world.digest()
  })
  afterEach(() => {
    rmSync(wheels, { recursive: true })
    expect(world.digest()).toBe(digest)
  })

  const dist = (name: string, version = '1.0'): PlannedDist => ({
    name,
    version,
    sha256: null,
    sizeBytes: null,
    url: null,
    requires: [],
  })
  const module = (name: string, options: ElfOptions = {}): Record<string, Uint8Array> => ({
    [`${name}/core${suffix}`]: makeElf({ module: 'core', ...options }),
  })
  const check = (wheel: Omit<WheelOptions, 'version'>, environment: Record<string, string> = {}) => {
    makeWheel({ version: '1.0', ...wheel }, wheels)
    return checkWheels([dist(wheel.name)], {
      ...world.context,
      environment: { ...world.context.environment, ...environment },
      base: facts,
      top: facts,
      wheels,
    })
  }

  test('are refused when they were built for another torch (case 13)', async () => {
    const files = module('engine', { needed: ['libc10_cuda.so'], undefined: [`${CHECK}ib`] })
    const refusal = (await check({ name: 'engine', files }).catch((error: unknown) => error)) as Error
    expect(refusal).toMatchObject({
      code: 'install_abi_conflict',
      hint: 'It was built for another torch: take a version built for torch 2.14.1.',
      problems: [{ subject: 'engine', severity: 'error' }],
    })
    expect(refusal.message).toContain(`engine/core${suffix} needs `)
    expect(refusal.message).toMatch(new RegExp(`${READABLE}|${CHECK}`))
    expect(refusal.message).toContain('and torch/lib/libc10_cuda.so has')
    expect(existsSync(join(wheels, 'staged'))).toBe(false)
  })

  test('are fine when they fit, with what was broken before (cases 14, 35)', async () => {
    const files = module('engine', { needed: ['libc10_cuda.so'], undefined: [`${CHECK}jb`] })
    const checked = await check({ name: 'engine', files })
    expect(checked).toMatchObject({ touchesObjects: true, warnings: [] })
    expect(checked.before.findings).toMatchObject([{ file: 'transport/plugin.so' }])
  })

  test.each<[string, ElfOptions, RegExp, RegExp]>([
    [
      'for another CUDA (case 15)',
      { needed: ['libcudart.so.12'] },
      /needs libcudart\.so\.12, which is not there; there is torch\/lib\/libcudart\.so\.13/,
      /another CUDA/,
    ],
    [
      'for a torch with CUDA where there is none',
      { needed: ['libtorch_cuda.so'] },
      /needs libtorch_cuda\.so/,
      /this torch has none/,
    ],
    [
      'on a newer system (case 17)',
      { needed: ['libm.so.6'], versioned: [{ library: 'libm.so.6', version: 'GLIBC_2.99', symbol: 'sin' }] },
      /needs GLIBC_2\.99, which .*libm.* does not have/,
      /newer system/,
    ],
    [
      'for numpy 1 (case 25)',
      { contains: 'numpy.core._multiarray_umath' },
      /numpy<2, and numpy is 2\.2\.6/,
      /numpy 2\.2\.6/,
    ],
    [
      'for another Python',
      { undefined: ['_PyGone_FromAnotherTime'] },
      /_PyGone_FromAnotherTime, which nothing here has/,
      /another Python/,
    ],
  ])('are refused when they were built %s', async (_, options, message, hint) => {
    await expect(check({ name: 'engine', files: module('engine', options) })).rejects.toMatchObject({
      code: 'install_abi_conflict',
      message: expect.stringMatching(message) as string,
      hint: expect.stringMatching(hint) as string,
    })
  })

  test('are refused when the C++ strings are the old ones, with the build to take (case 18)', async () => {
    const start = '_ZN3c106detail14torchCheckFailEPKcS2_jRK'
    makeWheel(
      {
        name: 'c10',
        version: '1.0',
        files: {
          'c10/libc10.so': makeElf({
            exports: [`${start}NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE`],
          }),
        },
      },
      wheels,
    )
    const files = module('engine', { needed: ['libc10.so'], undefined: [`${start}Ss`] })
    await expect(check({ name: 'engine', files })).rejects.toMatchObject({
      hint: expect.stringContaining('cxx11abi') as string,
    })
  })

  test('may need the driver of a GPU that is not there (case 16)', async () => {
    const files = module('engine', { needed: ['libcuda.so.1'], undefined: ['cuInit'] })
    expect(await check({ name: 'engine', files })).toMatchObject({ warnings: [] })
  })

  test('are warned about when a module is named for another Python (case 19)', async () => {
    const files = { 'engine/core.cpython-30-x86_64-linux-gnu.so': makeElf({ module: 'core' }) }
    expect((await check({ name: 'engine', files })).warnings).toMatchObject([
      {
        severity: 'warning',
        subject: 'engine',
        message: expect.stringContaining('another Python') as string,
      },
    ])
  })

  test('are warned about when they say that they were built for another torch, as xformers does', async () => {
    const files = (torch: string) => ({
      ...module('kernels'),
      'kernels/cpp_lib.json': JSON.stringify({ version: { torch, cuda: 1208 } }),
    })
    expect((await check({ name: 'kernels', files: files('2.8.0+cu128') })).warnings).toMatchObject([
      {
        subject: 'kernels',
        severity: 'warning',
        message: expect.stringMatching(
          /^kernels was built for torch 2\.8\.0\+cu128, and torch is 2\./,
        ) as string,
      },
    ])
  })

  test('are refused when an object is cut off (case 22)', async () => {
    const whole = makeElf({ module: 'core', contains: 'x'.repeat(4096) })
    await expect(
      check({ name: 'engine', files: { [`engine/core${suffix}`]: whole.subarray(0, 2000) } }),
    ).rejects.toMatchObject({
      code: 'install_abi_conflict',
      message: expect.stringContaining('is damaged') as string,
    })
  })

  test('are refused when an object has not the size that RECORD says (case 22)', async () => {
    const path = makeWheel({ name: 'engine', version: '1.0', files: module('engine') }, wheels)
    const bytes = readFileSync(path)
    const size = makeElf({ module: 'core' }).length
    const at = bytes.lastIndexOf(`,${size}\n`)
    bytes.write(`,${size + 1}\n`, at)
    writeFileSync(path, bytes)
    await expect(
      checkWheels([dist('engine')], { ...world.context, base: facts, top: facts, wheels }),
    ).rejects.toMatchObject({
      message: expect.stringContaining(`has ${size} bytes instead of ${size + 1}`) as string,
    })
  })

  test('are refused when an installed object needs what they take away', async () => {
    const gone = makePythonWorld([])
    try {
      const library = (symbol: string) => ({
        'native/libnative.so': makeElf({ soname: 'libnative.so', exports: [symbol] }),
      })
      const user = {
        [`user/core${suffix}`]: makeElf({ module: 'core', needed: ['libnative.so'], undefined: ['before'] }),
      }
      makeWheel({ name: 'native', version: '1.0', files: library('before') }, gone.index)
      makeWheel({ name: 'user', version: '1.0', files: user }, gone.index)
      gone.bake('native', 'user')
      const top = await inspectPython(gone.interpreter, { signal: world.context.signal })
      makeWheel({ name: 'native', version: '2.0', files: library('after') }, wheels)
      await expect(
        checkWheels([dist('native', '2.0')], { ...gone.context, base: top, top, wheels }),
      ).rejects.toMatchObject({
        code: 'install_abi_conflict',
        message: `user/core${suffix} needs before, which nothing here has`,
      })
    } finally {
      gone.close()
    }
  })

  describe('on a box with a card', () => {
    const card = (capability: string, driver: string): Record<string, string> => {
      const folder = join(world.folder, 'bin')
      mkdirSync(folder, { recursive: true })
      writeFileSync(
        join(folder, 'nvidia-smi'),
        `#!/bin/sh\necho 'NVIDIA Test, 48000, 100, 0, ${driver}, ${capability}'\n`,
        { mode: 0o755 },
      )
      return { PATH: `${folder}:/usr/bin:/bin` }
    }
    const kernels = () => module('kernels', { sections: [gpuSection([{ machine: [80, 86, 90] }])] })

    test('are refused without code for it (case 43)', async () => {
      await expect(
        check({ name: 'kernels', files: kernels() }, card('12.0', '580.65')),
      ).rejects.toMatchObject({
        code: 'install_abi_conflict',
        message: `kernels/core${suffix} has no code for NVIDIA Test (compute capability 12.0), only sm_80, sm_86, sm_90`,
      })
    })

    test('are fine with code for it', async () => {
      expect(await check({ name: 'kernels', files: kernels() }, card('8.9', '580.65'))).toMatchObject({
        warnings: [],
      })
    })

    test.each([
      ['535.183.01', 'driver_too_old'],
      ['580.65.06', undefined],
    ])('a torch for CUDA 13 with the driver %s gives %s (case 42)', async (driver, code) => {
      const files = { 'torch/version.py': "cuda = '13.0'\n", 'torch/__init__.py': '' }
      const checked = check({ name: 'torch', files }, card('9.0', driver))
      if (code === undefined) expect(await checked).toMatchObject({ warnings: [] })
      else
        await expect(checked).rejects.toMatchObject({
          code,
          message:
            'torch is built for CUDA 13.0, which needs the driver 580 or newer; this box has 535.183.01',
        })
    })
  })

  test('T36: are not unpacked outside of their folder', async () => {
    await expect(check({ name: 'evil', files: { '../../evil.so': makeElf({}) } })).rejects.toMatchObject({
      code: 'unsafe_path',
    })
    expect(readdirSync(world.folder)).not.toContain('evil.so')
  })

  test('must be readable', async () => {
    const path = join(wheels, 'broken-1.0-py3-none-any.whl')
    for (const text of ['no zip at all', 'PK\x05\x06'.padEnd(30, '\xff')]) {
      writeFileSync(path, text, 'latin1')
      await expect(withZip(path, () => Promise.resolve())).rejects.toMatchObject({ code: 'install_failed' })
    }
  })

  test('an install of what does not fit changes nothing; of what fits, it imports (cases 13, 14, 20)', async () => {
    const core = (options: ElfOptions) => ({
      'fits/__init__.py': 'import fits.core\n',
      [`fits/core${suffix}`]: makeElf({
        needed: ['libc10_cuda.so'],
        runpath: '$ORIGIN/../../../../../../../base/lib',
        ...options,
      }),
    })
    makeWheel(
      { name: 'fits', version: '1.0', files: core({ module: 'core', undefined: [`${CHECK}ib`] }) },
      world.index,
    )
    // Without its init function the loader is content, but Python is not.
    makeWheel(
      { name: 'fits', version: '2.0', files: core({ exports: ['something'], needed: [] }) },
      world.index,
    )
    makeWheel({ name: 'fits', version: '3.0', files: core({ module: 'core', needed: [] }) }, world.index)
    const apply = async (version: string) =>
      preparePython(
        await world.plan({ install: [{ spec: `fits==${version}` }], imports: ['fits'] }),
        world.context,
      )
    const env = async () => join((await world.plan()).root, 'env')
    await preparePython(await world.plan(), world.context)
    const before = world.digest(await env())
    await expect(apply('1.0')).rejects.toMatchObject({ code: 'install_abi_conflict' })
    expect(world.digest(await env())).toBe(before)
    expect(world.events.map(({ type }) => type)).not.toContain('python.rolled-back')
    await expect(apply('2.0')).rejects.toMatchObject({
      code: 'import_failed',
      message: expect.stringContaining('PyInit_core') as string,
    })
    expect(world.events.at(-1)?.type).toBe('python.rolled-back')
    expect(world.digest(await env())).toBe(before)
    await apply('3.0')
    expect((await world.plan({ install: [{ spec: 'fits' }] })).changes).toEqual([])
  })
})
