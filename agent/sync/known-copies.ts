import type { RemoteFile } from './carrier.ts'
import type { ObservedUnit } from './observe-units.ts'
import type { PlannedSync } from './planned-sync.ts'
import { destinationOf } from './planned-sync.ts'
import { recordPath } from './unit-record.ts'
import type { SyncStore, UnitCopy } from './sync-store.ts'

export type KnownCopies = ReturnType<typeof createKnownCopies>

/** What is remembered of the copies at one destination. The remote is the truth: `compare` corrects this. */
export const createKnownCopies = (planned: PlannedSync, store: SyncStore) => {
  const destination = destinationOf(planned)
  const sync = planned.spec.name
  const kept = store.copies(sync, destination)
  const copies = new Map<string, UnitCopy>(kept)
  /** Unit → the fingerprint of what its stored copy holds; where it is not known hashes decide. */
  const fingerprints = new Map(
    [...kept].flatMap(([unit, { state, fingerprint }]) =>
      state === 'stored' && fingerprint !== undefined ? [[unit, fingerprint]] : [],
    ),
  )

  return {
    get: (unit: string): UnitCopy | undefined => copies.get(unit),
    storedCount: (): number => [...copies.values()].filter(({ state }) => state === 'stored').length,
    isStored: (unit: Pick<ObservedUnit, 'name' | 'fingerprint'>): boolean =>
      fingerprints.get(unit.name) === unit.fingerprint,
    holds: (unit: string, digest: string): boolean => {
      const copy = copies.get(unit)
      return copy?.state === 'stored' && copy.digest === digest
    },
    remember: (unit: string, copy: UnitCopy): void => {
      store.saveCopy({ sync, destination, unit }, copy)
      // To the end: `latest` goes by the order.
      copies.delete(unit)
      copies.set(unit, copy)
    },
    /** Notes that the stored copy holds what the unit holds now. */
    matched: ({ name, fingerprint }: ObservedUnit): void => {
      store.saveMatch({ sync, destination, unit: name }, fingerprint)
      fingerprints.set(name, fingerprint)
    },
    /** The units that were stored last, a few of them. */
    latest: (count: number): readonly string[] =>
      [...copies].flatMap(([unit, { state }]) => (state === 'stored' ? [unit] : [])).slice(-count),
    /** Units whose stored copies are not whole on the remote, by what lies there. */
    notWhole: (there: ReadonlyMap<string, RemoteFile>): readonly string[] =>
      [...copies]
        .filter(([, copy]) => copy.state === 'stored')
        .filter(
          ([unit, copy]) =>
            !there.has(recordPath(unit)) ||
            copy.files.some((file) => there.get(file.path)?.sizeBytes !== file.sizeBytes),
        )
        .map(([unit]) => unit),
    forget: (unit: string): void => {
      store.forgetCopy({ sync, destination, unit })
      copies.delete(unit)
      fingerprints.delete(unit)
    },
  }
}
