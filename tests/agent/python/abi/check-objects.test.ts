import { spawnSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { AbiLayout } from '../../../../agent/python/abi/abi-layout.ts'
import { newFindings } from '../../../../agent/python/abi/abi-layout.ts'
import { checkAbi } from '../../../../agent/python/abi/check-abi.ts'
import { checkObjects } from '../../../../agent/python/abi/check-objects.ts'
import { runsOn } from '../../../../agent/python/abi/gpu-code.ts'
import type { ElfOptions } from '../../../support/elf/make-elf.ts'
import { makeElf, writeElf } from '../../../support/elf/make-elf.ts'
import { gpuSection } from '../../../support/elf/sections.ts'
import { systemPython } from '../../../support/wheels/python-world.ts'

const system = systemPython()
const python = system.missing === undefined ? system.path : undefined
const asked =
  python === undefined
    ? undefined
    : spawnSync(
        python,
        [
          '-c',
          'import sys, sysconfig; print(sys.implementation.cache_tag); print(sysconfig.get_path("platstdlib"))',
        ],
        { encoding: 'utf8' },
      )
const [tag = 'cpython-311', stdlib = ''] = asked?.stdout.trim().split('\n') ?? []
const SUFFIX = `.${tag}-x86_64-linux-gnu.so`
const skip = python === undefined || process.arch !== 'x64'

/** c10::cuda::c10_cuda_check_implementation, as torch up to 2.9 had it and as 2.10 has it. */
const CHECK = '_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_'

describe.skipIf(skip)('the shared objects of an environment (needs python3 on x86-64)', () => {
  let site: string
  beforeEach(() => {
    site = realpathSync(mkdtempSync(join(tmpdir(), 'abi-')))
  })
  afterEach(() => rmSync(site, { recursive: true, force: true }))

  const layout = (changed: Partial<AbiLayout> = {}): AbiLayout => ({
    interpreter: realpathSync(python ?? ''),
    sites: [site],
    hidden: [],
    libraryPath: '',
    numpy: null,
    suffixes: [SUFFIX, '.abi3.so', '.so'],
    withGpuCode: [],
    ...changed,
  })
  const check = (changed?: Partial<AbiLayout>) => checkObjects(layout(changed))
  const add = (name: string, options: ElfOptions) => writeElf(join(site, name), options)
  const module = (name: string, options: ElfOptions = {}) =>
    add(`${name}${SUFFIX}`, { module: name, ...options })
  /** What Python itself says when it imports the module. */
  const imported = (name: string) =>
    spawnSync(python ?? '', ['-c', `import ${name}`], { encoding: 'utf8', env: { PYTHONPATH: site } })

  test('a module that Python imports has no finding', () => {
    module('good', { needed: ['libc.so.6', 'libm.so.6'], undefined: ['malloc', 'PyErr_SetString'] })
    expect(imported('good')).toMatchObject({ status: 0, stderr: '' })
    expect(check()).toMatchObject({ objects: 1, findings: [] })
  })

  test('a symbol that torch no longer has is found, and what torch has instead (case 13)', () => {
    module('transformer_engine', {
      needed: ['libc10_cuda.so'],
      runpath: '$ORIGIN/torch/lib',
      undefined: [`${CHECK}ib`],
    })
    add('torch/lib/libc10_cuda.so', { soname: 'libc10_cuda.so', exports: [`${CHECK}jb`] })
    expect(imported('transformer_engine').stderr).toContain(`undefined symbol: ${CHECK}ib`)
    expect(check().findings).toEqual([
      {
        file: `transformer_engine${SUFFIX}`,
        path: join(site, `transformer_engine${SUFFIX}`),
        kind: 'symbol',
        what: `${CHECK}ib`,
        provider: 'torch/lib/libc10_cuda.so',
        instead: `${CHECK}jb`,
      },
    ])
  })

  test('the same module is fine with the torch that it was built for (case 14)', () => {
    module('transformer_engine', {
      needed: ['libc10_cuda.so'],
      runpath: '$ORIGIN/torch/lib',
      undefined: [`${CHECK}ib`],
    })
    add('torch/lib/libc10_cuda.so', { soname: 'libc10_cuda.so', exports: [`${CHECK}ib`] })
    expect(imported('transformer_engine').status).toBe(0)
    expect(check().findings).toEqual([])
  })

  test('a library of another CUDA is missing (case 15)', () => {
    module('needs12', { needed: ['libcudart.so.12'], undefined: ['cudaMalloc'] })
    add('nvidia/cuda_runtime/lib/libcudart.so.13', { soname: 'libcudart.so.13', exports: ['cudaMalloc'] })
    expect(imported('needs12').stderr).toContain('libcudart.so.12')
    expect(check().findings).toMatchObject([{ kind: 'library', what: 'libcudart.so.12' }])
  })

  test('the driver’s library may be absent, and what it would have (case 16)', () => {
    module('driver', { needed: ['libcuda.so.1'], undefined: ['cuInit'] })
    expect(check()).toMatchObject({ findings: [], driverProvided: [`driver${SUFFIX}`] })
    module('other', { needed: ['libcuda.so.1'], undefined: ['not_of_the_driver'] })
    expect(check().findings).toMatchObject([{ kind: 'symbol', what: 'not_of_the_driver' }])
  })

  test.each([
    ['libm.so.6', 'GLIBC_2.99', 'sin'],
    ['libc.so.6', 'GLIBC_2.98', 'malloc'],
  ])('a newer %s is needed: %s (case 17)', (library, version, symbol) => {
    module('newer', { needed: [library], versioned: [{ library, version, symbol }] })
    expect(imported('newer').stderr).toContain(`version \`${version}' not found`)
    expect(check().findings).toMatchObject([
      { kind: 'version', what: version, provider: expect.stringContaining(library) as string },
    ])
  })

  test('a version that the library has is fine', () => {
    module('versioned', {
      needed: ['libm.so.6'],
      versioned: [{ library: 'libm.so.6', version: 'GLIBC_2.2.5', symbol: 'sin' }],
    })
    expect(imported('versioned')).toMatchObject({ status: 0, stderr: '' })
    expect(check().findings).toEqual([])
  })

  test('a library with versions of its own serves those alone', () => {
    add('own.libs/libown.so', { soname: 'libown.so', exports: ['work'], defines: 'OWN_2' })
    const of = (version: string): ElfOptions => ({
      needed: ['libown.so'],
      runpath: '$ORIGIN/own.libs',
      versioned: [{ library: 'libown.so', version, symbol: 'work' }],
    })
    module('second', of('OWN_2'))
    expect(imported('second')).toMatchObject({ status: 0, stderr: '' })
    expect(check().findings).toEqual([])
    module('first', of('OWN_1'))
    expect(imported('first').stderr).toContain('OWN_1')
    expect(check().findings).toMatchObject([{ file: `first${SUFFIX}`, kind: 'version', what: 'OWN_1' }])
  })

  test('the other C++ strings are another symbol (case 18)', () => {
    module('oldcxx', { needed: ['libc10.so'], undefined: ['_ZN3c106detail14torchCheckFailEPKcS2_jRKSs'] })
    const instead =
      '_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE'
    add('torch/lib/libc10.so', { soname: 'libc10.so', exports: [instead] })
    expect(check().findings).toMatchObject([{ kind: 'symbol', instead }])
  })

  test('a module named for another Python is passed over by the import (case 19)', () => {
    add('wrongpy.cpython-37m-x86_64-linux-gnu.so', { module: 'wrongpy' })
    expect(imported('wrongpy').stderr).toContain('ModuleNotFoundError')
    expect(check().findings).toMatchObject([{ kind: 'python' }])
  })

  test('an object without its init function is none of the loader’s business (case 20)', () => {
    add(`noinit${SUFFIX}`, { exports: ['something'] })
    expect(imported('noinit').stderr).toContain('PyInit_noinit')
    expect(check().findings).toEqual([])
  })

  test('an object that is cut off is damaged (case 22)', () => {
    const whole = makeElf({ module: 'cut', contains: 'x'.repeat(8192) })
    writeFileSync(join(site, `cut${SUFFIX}`), whole.subarray(0, 4096))
    expect(imported('cut').status).not.toBe(0)
    expect(check().findings).toMatchObject([{ kind: 'damaged', what: 'it is cut off' }])
  })

  test('hostile objects end in a finding, not in an error', () => {
    const whole = makeElf({ module: 'hostile', exports: ['a'], needed: ['libc.so.6'] })
    for (let at = 0; at < whole.length; at += 7) {
      const bytes = Buffer.from(whole)
      bytes.fill(0xff, at, Math.min(at + 8, bytes.length))
      writeFileSync(join(site, `hostile-${at}.so`), bytes)
    }
    writeFileSync(join(site, 'script.so'), 'INPUT(-lm)')
    writeFileSync(join(site, 'empty.so'), '')
    symlinkSync('/nonexistent/libnothing.so', join(site, 'dangling.so'))
    expect(check().objects).toBeGreaterThan(100)
  })

  test('weak symbols are optional', () => {
    module('weak', { weak: ['nobody_has_this'] })
    expect(imported('weak').status).toBe(0)
    expect(check().findings).toEqual([])
  })

  test('the old table of names is read as well', () => {
    add('old.libs/libold.so', { soname: 'libold.so', exports: ['one', 'two'], oldHash: true })
    module('user', {
      needed: ['libold.so'],
      runpath: '${ORIGIN}/old.libs',
      undefined: ['two'],
      oldHash: true,
    })
    expect(imported('user')).toMatchObject({ status: 0, stderr: '' })
    expect(check().findings).toEqual([])
  })

  test.each<[string, ElfOptions, string]>([
    ['RUNPATH', { runpath: '$ORIGIN/deep' }, ''],
    ['RPATH', { rpath: '$ORIGIN/deep' }, ''],
    ['LD_LIBRARY_PATH', {}, 'deep'],
  ])('libraries are found by %s', (_, paths, libraryPath) => {
    // Not by its file’s name: only the folder that is searched leads to it.
    add('deep/libdeep.so.2', { soname: 'libdeep.so.2', exports: ['deep'] })
    add('lib/libdeep.so.2', { soname: 'libdeep.so.2', exports: ['shallow'] })
    module('diver', { needed: ['libdeep.so.2'], undefined: ['deep'], ...paths })
    module('lost', { needed: ['libdeep.so.2'], undefined: ['nowhere'], ...paths })
    expect(check({ libraryPath: libraryPath && join(site, libraryPath) }).findings).toMatchObject([
      { file: `lost${SUFFIX}`, what: 'nowhere' },
    ])
  })

  test('RPATH reaches the libraries of a library, RUNPATH does not', () => {
    const chain = (folder: string, paths: ElfOptions) => {
      add(`${folder}/in/libfar.so.1`, { soname: 'libfar.so.1', exports: ['far'] })
      add(`${folder}/in/libnear.so.1`, { soname: 'libnear.so.1', needed: ['libfar.so.1'] })
      add(`${folder}/start_${folder}${SUFFIX}`, {
        module: `start_${folder}`,
        needed: ['libnear.so.1'],
        undefined: ['far'],
        ...paths,
      })
    }
    chain('a', { rpath: '$ORIGIN/in' })
    expect(check().findings).toEqual([])
    // The loader would not find it; another package that loads it first makes it work all the same.
    chain('b', { runpath: '$ORIGIN/in' })
    expect(check().findings).toEqual([])
  })

  test('a library that another package brings is found by its name', () => {
    add('nvidia/cublas/lib/libcublas.so.13', { soname: 'libcublas.so.13', exports: ['cublasCreate'] })
    module('blas', { needed: ['libcublas.so.13'], undefined: ['cublasCreate'] })
    expect(check().findings).toEqual([])
    const hidden = [join(site, 'nvidia/cublas/lib/libcublas.so.13')]
    expect(check({ hidden }).findings).toMatchObject([{ kind: 'library', what: 'libcublas.so.13' }])
  })

  test('what was wrong before is not new (case 35)', () => {
    module('plugin', { needed: ['libmpi.so.40'] })
    const before = check()
    expect(before.findings).toHaveLength(1)
    module('fresh', { needed: ['libmpi.so.40'] })
    expect(newFindings(check(), before)).toMatchObject([{ file: `fresh${SUFFIX}` }])
  })

  test.each([
    ['numpy.core._multiarray_umath', '2.2.6', 'numpy<2'],
    ['numpy.core._multiarray_umath', '1.26.4', undefined],
    [
      'numpy.core._multiarray_umath numpy._core._multiarray_umath compiled against NumPy C-API version 0x%x (NumPy 2.1)',
      '2.0.2',
      'numpy>=2.1',
    ],
    [
      'numpy.core._multiarray_umath numpy._core._multiarray_umath compiled against NumPy C-API version 0x%x (NumPy 1.23)',
      '2.2.6',
      undefined,
    ],
    ['nothing of the kind', '2.2.6', undefined],
  ])('a module that says “%s” with numpy %s needs %s (case 25)', (contains, numpy, what) => {
    module('arrays', { contains: `${'x'.repeat(2 ** 20 - 200)}${contains}` })
    expect(check({ numpy }).findings.map((finding) => finding.what)).toEqual(what === undefined ? [] : [what])
  })

  test('the GPUs that an object has code for are those of all its parts (case 43)', () => {
    module('kernels', {
      sections: [
        gpuSection([
          { machine: [75, 80, 90, 103], ptx: [90] },
          { machine: [75, 80, 90], ptx: [90] },
        ]),
      ],
    })
    const { gpu } = check({ withGpuCode: [site] })
    expect(gpu).toEqual([{ file: `kernels${SUFFIX}`, code: { machine: [75, 80, 90], ptx: [90] } }])
    expect(['7.5', '8.6', '9.0', '12.0'].map((capability) => runsOn(gpu[0]!.code, capability))).toEqual([
      true,
      true,
      true,
      true,
    ])
    expect(
      ['7.0', '8.6', '12.0'].map((capability) => runsOn({ machine: [75, 80, 90], ptx: [] }, capability)),
    ).toEqual([false, true, false])
  })

  test('the modules of the standard library are all fine, as they are in reality', () => {
    const folder = join(stdlib, 'lib-dynload')
    mkdirSync(join(site, 'dynload'))
    const names = readdirSync(folder).filter((name) => name.endsWith('.so'))
    for (const name of names) symlinkSync(join(folder, name), join(site, 'dynload', name))
    const answer = check()
    expect(answer.objects).toBe(names.length)
    // Some of them lack their library on a machine without a screen; the loader then says the same.
    const failing = answer.findings.map(({ file }) => basename(file))
    for (const name of names) {
      const loads = !failing.includes(name)
      if (loads && /^_(ctypes|ssl|sqlite3|struct|json)\./.test(name))
        expect(spawnSync(python ?? '', ['-c', `import ${name.split('.')[0]}`]).status).toBe(0)
    }
    expect(failing.filter((name) => !/tkinter|gdbm|dbm|curses|readline/.test(name))).toEqual([])
  })

  test('the thread answers as the function does, and stops when it is told to', async () => {
    module('broken', { undefined: ['nobody_has_this'] })
    expect(await checkAbi(layout(), { signal: new AbortController().signal })).toEqual(check())
    const reason = new Error('enough')
    await expect(checkAbi(layout(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })

  test('no file stays open', () => {
    for (const name of ['a', 'b', 'c']) module(name, { undefined: ['malloc'] })
    check()
    // Only its own: what the test runner opens and closes meanwhile is its own affair.
    const open = readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        // The one that listed them.
        return ''
      }
    })
    expect(open.filter((path) => path.includes('.so'))).toEqual([])
  })
})
