import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { readGpus } from '../platform/gpu.ts'
import { readGpuCode } from './abi/gpu-code.ts'
import { checkDriver, checkGpuCode, readDriver } from './check-gpu.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'

/**
 * Whether the torch of these sites runs with the driver and on the cards of this box, read from its files: “no kernel
 * image is available” would come at its first use only. Nothing where there is no torch.
 */
export const checkTorchFit = async (
  sites: readonly string[],
  context: Pick<PythonContext, 'environment' | 'signal'>,
): Promise<readonly Problem[]> => {
  const torch = await findTorch(sites)
  if (torch === undefined) return []
  const gpus = (await readGpus(cleanEnvironment(context.environment)['PATH'] ?? '', context.signal)) ?? []
  const objects = gpus.length === 0 ? [] : await gpuObjects(join(torch.site, 'torch', 'lib'))
  return [
    ...checkGpuCode(objects, { gpus, ownerOf: () => 'torch' }),
    ...checkDriver(torch.versionText, { driver: await readDriver(gpus) }),
  ]
}

const findTorch = async (
  sites: readonly string[],
): Promise<{ readonly site: string; readonly versionText: string } | undefined> => {
  for (const site of sites) {
    const versionText = await readFile(join(site, 'torch', 'version.py'), 'utf8').catch(() => undefined)
    if (versionText !== undefined) return { site, versionText }
  }
  return undefined
}

const gpuObjects = async (folder: string) => {
  const names = await readdir(folder).catch(() => [])
  return names
    .filter((name) => name.endsWith('.so'))
    .flatMap((name) => {
      // Heads of some hundred parts are read, in milliseconds; what cannot be read is the ELF check's to tell.
      try {
        const code = readGpuCode(join(folder, name))
        return code === null ? [] : [{ file: `torch/lib/${name}`, code }]
      } catch {
        return []
      }
    })
}
