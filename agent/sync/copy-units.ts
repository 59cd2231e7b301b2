import type { Report } from '../../shared/contract/events.ts'
import type { Carrier } from './carrier.ts'
import type { CopyMeter } from './copy-meter.ts'
import type { HashFile } from './file-hashes.ts'
import type { KnownCopies } from './known-copies.ts'
import type { ObservedUnit } from './observe-units.ts'
import type { PlannedSync } from './planned-sync.ts'
import type { SealedUnit } from './seal-unit.ts'
import { sealUnit } from './seal-unit.ts'
import { storeUnits } from './store-units.ts'

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
 * Seals complete units and stores them together, but for those whose copies hold just that already.
 * @throws AgentError checkpoint_changed, and what the carrier throws
 */
export const copyUnits = async (units: readonly ObservedUnit[], context: CopyContext): Promise<void> => {
  const { copies, signal } = context
  const sealed: SealedUnit[] = []
  try {
    for (const unit of units)
      if (unit.verdict.state === 'complete')
        sealed.push(
          await sealUnit(unit, {
            root: context.planned.spec.path,
            completeAt: unit.verdict.completeAt,
            hashFile: context.hashFile,
            signal,
          }),
        )
    const wanted = sealed.filter(({ name, digest }) => !copies.holds(name, digest))
    if (wanted.length > 0) await store(wanted, context)
    const done = new Set(sealed.map(({ name }) => name))
    for (const unit of units) if (done.has(unit.name)) copies.matched(unit)
  } finally {
    for (const unit of sealed) unit.close()
  }
}

const store = async (units: readonly SealedUnit[], context: CopyContext): Promise<void> => {
  const { copies, meter, report } = context
  const { spec } = context.planned
  const carrier = await context.carrier()
  const about = units.map((unit) => {
    const files = unit.files.map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 }))
    const bytes = files.reduce((sum, file) => sum + file.sizeBytes, 0)
    return {
      unit,
      copy: { digest: unit.digest, files },
      data: { unit: unit.name, files: files.length, bytes },
    }
  })
  const names = units.map(({ name }) => name)
  for (const { data } of about) report({ type: 'sync.started', subject: spec.name, data })
  meter.begin(
    names,
    about.reduce((sum, { data }) => sum + data.bytes, 0),
  )
  try {
    const proofs = await storeUnits(units, {
      carrier,
      versions: spec.versions,
      completeMarker: spec.complete_marker,
      startedBefore: (unit) => copies.get(unit)?.state === 'started',
      temporaryFolder: context.temporaryFolder,
      signal: context.signal,
      onPut: (bytes) => {
        meter.begin(names, bytes)
        for (const { unit, copy } of about)
          copies.remember(unit.name, { ...copy, state: 'started', verifiedBy: null })
      },
      onProgress: meter.moved,
    })
    for (const { unit, copy, data } of about) {
      const verifiedBy = proofs.get(unit.name) ?? 'size'
      copies.remember(unit.name, { ...copy, state: 'stored', verifiedBy })
      report({
        type: 'sync.copied',
        subject: spec.name,
        data: { ...data, digest: unit.digest, verifiedBy },
      })
    }
  } finally {
    meter.end()
  }
}
