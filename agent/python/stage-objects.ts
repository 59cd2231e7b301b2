import { mkdir } from 'node:fs/promises'
import { joinInside } from '../platform/files.ts'
import { isObjectName } from './abi/list-objects.ts'
import { listWheels, recordOf, sitePathOf } from './read-wheel.ts'
import { withZip } from './zip-archive.ts'

/** Shared objects of wheels, unpacked beside the environment. */
export type StagedObjects = {
  readonly folder: string
  /** Path in the site folder → canonical name of its dist. */
  readonly owners: ReadonlyMap<string, string>
  /** Files that do not have the size that their wheel's RECORD says. */
  readonly damaged: readonly { readonly file: string; readonly reason: string }[]
  /** Content of torch/version.py, where a wheel brings it. */
  readonly torchVersion: string | undefined
  /** Dist → the torch that it says it was built for, as xformers does: with another it runs without its kernels. */
  readonly builtFor: ReadonlyMap<string, string>
}

/**
 * Unpacks the shared objects of every wheel in a folder, to where they can be looked at.
 * @throws AgentError install_failed, unsafe_path, disk_full
 */
export const stageObjects = async (
  wheels: string,
  context: { readonly to: string; readonly signal: AbortSignal },
): Promise<StagedObjects> => {
  const owners = new Map<string, string>()
  const damaged: { file: string; reason: string }[] = []
  const builtFor = new Map<string, string>()
  let torchVersion: string | undefined
  await mkdir(context.to, { recursive: true })
  for (const wheel of await listWheels(wheels))
    await withZip(wheel.path, async (zip) => {
      const sizes = new Map((await recordOf(zip, wheel.path)).map((one) => [one.path, one.sizeBytes]))
      for (const entry of zip.entries) {
        context.signal.throwIfAborted()
        const path = sitePathOf(entry.name)
        if (path === 'torch/version.py') torchVersion = (await zip.read(entry)).toString('utf8')
        if (path?.endsWith('/cpp_lib.json')) {
          const torch = /"torch":\s*"([^"]+)"/.exec((await zip.read(entry)).toString('utf8'))?.[1]
          if (torch !== undefined) builtFor.set(wheel.name, torch)
        }
        if (path === undefined || !isObjectName(path.split('/').at(-1) ?? '')) continue
        await zip.extract(entry, joinInside(context.to, path))
        owners.set(path, wheel.name)
        const size = sizes.get(entry.name) ?? null
        if (size !== null && size !== entry.sizeBytes)
          damaged.push({ file: path, reason: `it has ${entry.sizeBytes} bytes instead of ${size}` })
      }
    })
  return { folder: context.to, owners, damaged, torchVersion, builtFor }
}
