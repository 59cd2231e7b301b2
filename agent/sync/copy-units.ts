import type { Report } from '../../shared/contract/events.ts'
import type { Carrier } from './carrier.ts'
import type { CopyMeter } from './copy-meter.ts'
import type { HashFile } from './file-hashes.ts'
import type { KnownCopies } from './known-copies.ts'
import type { ObservedUnit } from './observe-units.ts'
import type { PlannedSync } from './planned-sync.ts'
import type { OpenUnit } from './open-unit.ts'
import { openUnit } from './open-unit.ts'
import { sealUnit } from './seal-unit.ts'
import { storeUnits } from './store-units.ts'
import type { UnitCopy } from './sync-store.ts'

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
 * Stores complete units together, but for those whose copies hold just that already.
 * @throws AgentError checkpoint_changed, and what the carrier throws
 */
export const copyUnits = async (units: readonly ObservedUnit[], context: CopyContext): Promise<void> => {
  const { copies, hashFile, signal } = context
  const { path: root } = context.planned.spec
  const opened: OpenUnit[] = []
  try {
    for (const unit of units)
      if (unit.verdict.state === 'complete')
        opened.push(await openUnit(unit, { root, completeAt: unit.verdict.completeAt, hashFile, signal }))
    const wanted: OpenUnit[] = []
    for (const unit of opened) if (!(await isStored(unit, copies))) wanted.push(unit)
    if (wanted.length > 0) await store(wanted, context)
    const done = new Set(opened.map(({ name }) => name))
    for (const unit of units) if (done.has(unit.name)) copies.matched(unit)
  } finally {
    for (const unit of opened) unit.close()
  }
}

/** Only where a copy is known the hashes decide before it is sent; otherwise they are worked out along the way. */
const isStored = async (unit: OpenUnit, copies: KnownCopies): Promise<boolean> =>
  copies.get(unit.name)?.state === 'stored' && copies.holds(unit.name, (await sealUnit(unit)).digest)

const store = async (units: readonly OpenUnit[], context: CopyContext): Promise<void> => {
  const { copies, meter, report } = context
  const { spec } = context.planned
  const carrier = await context.carrier()
  const names = units.map(({ name }) => name)
  const data = new Map(
    units.map(({ name, files }) => [name, { unit: name, files: files.length, bytes: bytesOf(files) }]),
  )
  for (const one of data.values()) report({ type: 'sync.started', subject: spec.name, data: one })
  meter.begin(names, bytesOf(units.flatMap(({ files }) => files)))
  try {
    const proven = await storeUnits(units, {
      carrier,
      versions: spec.versions,
      completeMarker: spec.complete_marker,
      startedBefore: (unit) => copies.get(unit)?.state === 'started',
      temporaryFolder: context.temporaryFolder,
      signal: context.signal,
      onPut: (bytes) => {
        meter.begin(names, bytes)
        for (const unit of units) copies.remember(unit.name, startedCopy(unit))
      },
      onProgress: meter.moved,
    })
    for (const { unit, verifiedBy } of proven) {
      const files = unit.files.map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 }))
      copies.remember(unit.name, { digest: unit.digest, files, state: 'stored', verifiedBy })
      report({
        type: 'sync.copied',
        subject: spec.name,
        data: { ...data.get(unit.name), digest: unit.digest, verifiedBy },
      })
    }
  } finally {
    meter.end()
  }
}

/** Where a hash will stand: known when the copy is proven. */
const UNKNOWN_HASH = '0'.repeat(64)

/** Takes the room in the state that the proven copy needs, so that a full disk is found before anything is sent (S30). */
const startedCopy = ({ files }: OpenUnit): UnitCopy => ({
  digest: UNKNOWN_HASH,
  files: files.map(({ path, sizeBytes }) => ({ path, sizeBytes, sha256: UNKNOWN_HASH })),
  state: 'started',
  verifiedBy: null,
})

const bytesOf = (files: readonly { readonly sizeBytes: number }[]): number =>
  files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
