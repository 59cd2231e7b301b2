import type { Report } from '../../shared/contract/events.ts'
import type { Carrier } from './carrier.ts'
import type { CopyMeter } from './copy-meter.ts'
import type { HashFile } from './file-hashes.ts'
import type { KnownCopies } from './known-copies.ts'
import type { ObservedUnit } from './observe-units.ts'
import type { PlannedSync } from './planned-sync.ts'
import { sealUnit } from './seal-unit.ts'
import { storeUnit } from './store-unit.ts'

export type CopyContext = {
  readonly planned: PlannedSync
  readonly copies: KnownCopies
  readonly carrier: () => Promise<Carrier>
  readonly report: Report
  readonly hashFile: HashFile
  readonly temporaryFolder: string
  readonly signal: AbortSignal
  readonly meter: CopyMeter
}

/**
 * Seals a complete unit and stores it, unless its copy holds just that already.
 * @throws AgentError checkpoint_changed, and what the carrier throws
 */
export const copyUnit = async (unit: ObservedUnit, context: CopyContext): Promise<void> => {
  const { copies, report, signal } = context
  const { spec } = context.planned
  if (unit.verdict.state !== 'complete') return
  const sealed = await sealUnit(unit, {
    root: spec.path,
    completeAt: unit.verdict.completeAt,
    hashFile: context.hashFile,
    signal,
  })
  try {
    if (!copies.holds(unit.name, sealed.digest)) {
      const carrier = await context.carrier()
      const files = sealed.files.map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 }))
      const copy = { digest: sealed.digest, files }
      const bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0)
      const data = { unit: unit.name, files: files.length, bytes }
      report({ type: 'sync.started', subject: spec.name, data })
      context.meter.begin(unit.name, bytes)
      const verifiedBy = await storeUnit(sealed, {
        carrier,
        versions: spec.versions,
        completeMarker: spec.complete_marker,
        startedBefore: copies.get(unit.name)?.state === 'started',
        temporaryFolder: context.temporaryFolder,
        signal,
        onPut: (missingBytes) => {
          context.meter.begin(unit.name, missingBytes)
          copies.remember(unit.name, { ...copy, state: 'started', verifiedBy: null })
        },
        onProgress: context.meter.moved,
      })
      copies.remember(unit.name, { ...copy, state: 'stored', verifiedBy })
      report({
        type: 'sync.copied',
        subject: spec.name,
        data: { ...data, digest: sealed.digest, verifiedBy },
      })
    }
    copies.matched(unit)
  } finally {
    context.meter.end()
    await sealed.close()
  }
}
