import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkDisk } from '../../../agent/python/check-disk.ts'
import { checkTorchFit } from '../../../agent/python/torch-fit.ts'
import { writeElf } from '../../support/elf/make-elf.ts'
import { gpuSection } from '../../support/elf/sections.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'torch-fit-'))
  writeElf(join(folder, 'torch/lib/libtorch_cuda.so'), {
    soname: 'libtorch_cuda.so',
    sections: [gpuSection([{ machine: [80, 86, 90] }])],
  })
  writeFileSync(join(folder, 'torch/version.py'), "cuda: Optional[str] = '13.0'\n")
})
afterAll(() => rmSync(folder, { recursive: true }))

const fit = (capability: string, driver: string, sites = [folder]) => {
  mkdirSync(join(folder, 'bin'), { recursive: true })
  writeFileSync(
    join(folder, 'bin/nvidia-smi'),
    `#!/bin/sh\necho 'NVIDIA Test, 48000, 100, 0, ${driver}, ${capability}'\n`,
    { mode: 0o755 },
  )
  const environment = { PATH: `${join(folder, 'bin')}:/usr/bin:/bin` }
  return checkTorchFit(sites, { environment, signal: new AbortController().signal })
}

test('a card that torch has no code for is told before torch is first used (case 43)', async () => {
  expect(await fit('12.0', '580.65.06')).toMatchObject([
    {
      subject: 'torch',
      message:
        'torch/lib/libtorch_cuda.so has no code for NVIDIA Test (compute capability 12.0), only sm_80, sm_86, sm_90',
      hint: expect.stringContaining('no kernel image') as string,
    },
  ])
})

test('a driver that is older than torch’s CUDA needs is told (case 42)', async () => {
  expect(await fit('9.0', '535.183.01')).toMatchObject([{ code: 'driver_too_old', subject: 'torch' }])
})

test('nothing is said of a torch that fits, nor where there is none', async () => {
  expect(await fit('8.9', '580.65.06')).toEqual([])
  expect(await fit('12.0', '535.183.01', [join(folder, 'elsewhere')])).toEqual([])
})

test('packages that do not fit the disk are told with the plan, by the sizes of the index', async () => {
  const dist = { name: 'huge', version: '1.0', sha256: null, sizeBytes: 2 ** 60, url: null, requires: null }
  const [problem] = await checkDisk([dist], join(folder, 'not/there/yet'))
  expect(problem).toMatchObject({ code: 'disk_too_small', subjects: ['huge'] })
  expect(await checkDisk([{ ...dist, sizeBytes: null }], folder)).toEqual([])
})
