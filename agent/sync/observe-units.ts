import { createHash } from 'node:crypto'
import { realpath } from 'node:fs/promises'
import type { SyncSpec } from '../../shared/manifest/schema.ts'
import type { Clock } from '../platform/clock.ts'
import { inspectUnit } from './inspect-unit.ts'
import { listUnits } from './list-units.ts'
import { findOpenFiles } from './open-files.ts'
import { isPointedAt, readPointers } from './pointers.ts'
import type { Unit } from './unit.ts'
import { modifiedMsOf, pathInUnit } from './unit.ts'

/** A unit as this look found it. */
export type ObservedUnit = Unit & {
  /** Changes when any file of the unit does. */
  readonly fingerprint: string
  /** When it was written last, by the files' own times. */
  readonly modifiedMs: number
  /** The number of the look that first found it as it is: an order that no clock has part in. */
  readonly changedAtLook: number
  readonly verdict: Verdict
}

export type Verdict =
  | { readonly state: 'complete'; readonly completeAt: string }
  /** `waitMs`: it becomes complete by staying quiet this long; undefined when something else is missing. */
  | {
      readonly state: 'settling'
      readonly reason: string
      readonly waitMs: number | undefined
      /** Something that is written last is there: it only has to rest. */
      readonly isMarked: boolean
      readonly unchangedMs: number
      /** How long it has not been complete, as far as this agent has seen. */
      readonly incompleteMs: number
    }
  /** A name in it cannot be kept by remotes. */
  | { readonly state: 'refused'; readonly reason: string }

/** With a marker that is written last, this much quiet is enough. */
const MARKED_SETTLE_MS = 2_000

export type UnitObserver = {
  /** Looks at everything now. undefined: the path does not exist. */
  look(signal: AbortSignal): Promise<readonly ObservedUnit[] | undefined>
}

/**
 * Looks at a sync's path again and again and judges each unit: complete = nothing says otherwise (names, markers,
 * indexes, formats), nobody has it open for writing, and it was the same for `settle` as seen by this agent. Times of
 * files and of the wall clock do not count, so neither future times nor a clock that is set matter (S31).
 */
export const createUnitObserver = (
  spec: SyncSpec,
  {
    clock,
    isStored,
  }: { clock: Clock; isStored: (unit: Pick<ObservedUnit, 'name' | 'fingerprint'>) => boolean },
): UnitObserver => {
  let seen = new Map<string, Seen>()
  let looks = 0
  let formatFaults = new Map<string, string | null>()
  let pointerTexts: ReadonlyMap<string, string> = new Map()

  const judge = async (
    unit: Unit,
    times: { quietMs: number; incompleteMs: number },
    look: Look,
  ): Promise<Verdict> => {
    const { quietMs, incompleteMs } = times
    const refused = unit.refused[0]
    if (refused !== undefined)
      return { state: 'refused', reason: `the name ${JSON.stringify(refused)} cannot be kept by remotes` }
    const settling = (reason: string, rest: { waitMs?: number; isMarked?: boolean } = {}): Verdict => ({
      state: 'settling',
      reason,
      waitMs: rest.waitMs,
      isMarked: rest.isMarked ?? false,
      unchangedMs: quietMs,
      incompleteMs,
    })
    const inspection = await inspectUnit(unit, {
      spec,
      isPointedAt: isPointedAt(unit, look.pointers),
      formatFaults,
    })
    if (inspection.state === 'incomplete') return settling(inspection.reason)
    const settleMs = inspection.marked ? Math.min(MARKED_SETTLE_MS, spec.settle) : spec.settle
    if (quietMs < settleMs) {
      const waitMs = Math.ceil(settleMs - quietMs)
      return settling('changed a moment ago', { waitMs, isMarked: inspection.marked })
    }
    const writing = (await look.writing()).find((path) => unit.present.has(path))
    if (writing !== undefined) return settling(`${pathInUnit(unit, writing)} is open for writing`)
    const completeMs = Math.min(modifiedMsOf(unit), clock.now().getTime())
    return { state: 'complete', completeAt: new Date(completeMs).toISOString() }
  }

  return {
    look: async (signal) => {
      const units = await listUnits(spec, signal)
      const nowMs = clock.monotonicMs()
      looks += 1
      const pointers = await readPointers(spec.path, units ?? [])
      let writing: Promise<readonly string[]> | undefined
      const look: Look = {
        pointers: new Map([...pointers].filter(([path, text]) => pointerTexts.get(path) === text)),
        writing: () => (writing ??= findWriting(spec.path)),
      }
      const nextSeen: typeof seen = new Map()
      const observed: ObservedUnit[] = []
      for (const unit of units ?? []) {
        signal.throwIfAborted()
        const fingerprint = fingerprintOfUnit(unit)
        const before = seen.get(unit.name)
        // After a restart of the agent: what is stored as it is has been quiet before.
        const isKnown = !before && isStored({ name: unit.name, fingerprint })
        const sinceMs =
          before?.fingerprint === fingerprint ? before.sinceMs : isKnown ? nowMs - spec.settle : nowMs
        const changedAtLook = before?.fingerprint === fingerprint ? before.changedAtLook : looks
        const incompleteSinceMs =
          before && before.verdict.state !== 'complete' ? before.incompleteSinceMs : nowMs
        // What was complete stays so until it changes, so what is long stored is not read again and again.
        const verdict =
          before?.fingerprint === fingerprint && before.verdict.state === 'complete'
            ? before.verdict
            : await judge(unit, { quietMs: nowMs - sinceMs, incompleteMs: nowMs - incompleteSinceMs }, look)
        nextSeen.set(unit.name, { fingerprint, sinceMs, changedAtLook, incompleteSinceMs, verdict })
        observed.push({ ...unit, fingerprint, modifiedMs: modifiedMsOf(unit), changedAtLook, verdict })
      }
      seen = nextSeen
      pointerTexts = pointers
      const current = new Set(observed.flatMap((unit) => unit.files.map((file) => file.fingerprint)))
      formatFaults = new Map([...formatFaults].filter(([fingerprint]) => current.has(fingerprint)))
      return units && observed
    },
  }
}

type Seen = {
  readonly fingerprint: string
  readonly sinceMs: number
  readonly changedAtLook: number
  readonly incompleteSinceMs: number
  readonly verdict: Verdict
}

type Look = {
  /** Those that read the same at two looks. */
  readonly pointers: ReadonlyMap<string, string>
  readonly writing: () => Promise<readonly string[]>
}

const fingerprintOfUnit = (unit: Unit): string => {
  const hash = createHash('sha1')
  for (const file of unit.files) hash.update(`${file.path}\0${file.fingerprint}\n`)
  for (const path of [...unit.temporary, ...unit.refused]) hash.update(`${path}\n`)
  return hash.digest('hex')
}

/** Files below the root that are open for writing, relative to it. */
const findWriting = async (root: string): Promise<readonly string[]> => {
  // A folder that is not there, an unmounted disk for instance, is a matter of the survey.
  const real = await realpath(root).catch(() => root)
  const open = await findOpenFiles(real, { writingOnly: true })
  return [...open].map((path) => path.slice(real.length + 1))
}
