import { readFile } from 'node:fs/promises'
import type { Problem } from '../../shared/contract/errors.ts'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import type { Gpu } from '../platform/gpu.ts'
import type { GpuObject } from './abi/abi-layout.ts'
import { runsOn } from './abi/gpu-code.ts'

/**
 * The oldest Linux driver for a CUDA version, newest first. Within a major version CUDA keeps its compatibility.
 * Source: NVIDIA's table of minor-version compatibility.
 */
const DRIVERS: readonly (readonly [cuda: string, driver: string])[] = [
  ['13.0', '580'],
  ['12.0', '525.60.13'],
  ['11.1', '450.80.02'],
  ['11.0', '450.36.06'],
  ['10.2', '440.33'],
]

/** What the cards of this box cannot run: objects without code for them. One problem for each object. */
export const checkGpuCode = (
  objects: readonly GpuObject[],
  {
    gpus,
    ownerOf,
  }: { readonly gpus: readonly Gpu[]; readonly ownerOf: (file: string) => string | undefined },
): readonly Problem[] =>
  objects
    // NVIDIA's own libraries choose among parts for single cards; no part has all.
    .filter(({ file, code }) => !file.startsWith('nvidia/') && code.machine.length + code.ptx.length > 0)
    .flatMap(({ file, code }) => {
      const card = gpus.find((gpu) => gpu.computeCapability !== null && !runsOn(code, gpu.computeCapability))
      if (card === undefined) return []
      const has = [...code.machine.map((one) => `sm_${one}`), ...code.ptx.map((one) => `PTX ${one}`)]
      return [
        {
          code: 'install_abi_conflict',
          severity: 'error',
          subject: ownerOf(file) ?? file,
          message: `${file} has no code for ${card.name} (compute capability ${card.computeCapability ?? ''}), only ${has.join(', ')}`,
          hint: 'Take a version that was built for this card: “no kernel image” would come at its first use.',
        },
      ]
    })

/** Whether the driver is old for the CUDA that torch was built with. */
export const checkDriver = (
  torchVersion: string,
  { driver }: { readonly driver: string | null },
): readonly Problem[] => {
  const cuda = readTorchCuda(torchVersion)
  const needed = DRIVERS.find(([version]) => cuda !== null && compareVersions(cuda, version) >= 0)?.[1]
  if (cuda === null || driver === null || needed === undefined || compareVersions(driver, needed) >= 0)
    return []
  return [
    {
      code: 'driver_too_old',
      severity: 'error',
      subject: 'torch',
      message: `torch is built for CUDA ${cuda}, which needs the driver ${needed} or newer; this box has ${driver}`,
      hint: ERROR_CODES.driver_too_old.hint,
    },
  ]
}

/** The CUDA version in torch/version.py, read as text: `cuda = '12.8'`, also with a type. Null for a CPU build. */
export const readTorchCuda = (text: string): string | null =>
  /^cuda\s*(?::[^=\n]*)?=\s*['"](\d+\.\d+)/m.exec(text)?.[1] ?? null

/** The version of the driver: of a card that was asked, else of the kernel's module. */
export const readDriver = async (gpus: readonly Gpu[]): Promise<string | null> => {
  const [first] = gpus
  if (first !== undefined) return first.driver
  const text = await readFile('/sys/module/nvidia/version', 'utf8').catch(() => '')
  return text.trim() === '' ? null : text.trim()
}

const compareVersions = (a: string, b: string): number => {
  const [left, right] = [a, b].map((text) => text.split('.').map(Number))
  for (let place = 0; place < Math.max(left?.length ?? 0, right?.length ?? 0); place += 1) {
    const difference = (left?.[place] ?? 0) - (right?.[place] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
