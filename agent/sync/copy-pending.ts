import { AgentError } from '../../shared/contract/errors.ts'
import type { ObservedUnit } from './observe-units.ts'
import { newestFirst } from './order-units.ts'

/** A unit that changes under this many copies in a row is in trouble, not at work. */
const CHANGED_TOO_OFTEN = 5

/** Copies units one after another and remembers which ones fail. */
export const createPendingCopier = (copy: (unit: ObservedUnit, signal: AbortSignal) => Promise<void>) => {
  const changedInARow = new Map<string, number>()
  const failedUnits = new Set<string>()

  return {
    hasFailed: (unit: string): boolean => failedUnits.has(unit),
    /** Newest first, pointers last. One unit's trouble does not stop the others. @throws the first error */
    copyAll: async (
      units: readonly ObservedUnit[],
      { signal, goesOn }: { signal: AbortSignal; goesOn: () => boolean },
    ): Promise<void> => {
      const errors: unknown[] = []
      for (const unit of [...units].sort(newestFirst)) {
        if (!goesOn()) break
        try {
          await copy(unit, signal)
          changedInARow.delete(unit.name)
          failedUnits.delete(unit.name)
        } catch (error) {
          signal.throwIfAborted()
          const times = (changedInARow.get(unit.name) ?? 0) + 1
          if (isCode(error, 'checkpoint_changed') && times < CHANGED_TOO_OFTEN) {
            // It settles again first; the next look sees its new fingerprint.
            changedInARow.set(unit.name, times)
            continue
          }
          failedUnits.add(unit.name)
          errors.push(error)
          // Whatever the remote refuses now it refuses for the next unit too.
          if (!isTroubleOfUnit(error)) break
        }
      }
      if (errors.length > 0) throw errors[0]
    },
  }
}

/** True for what ails one unit alone: the next one may be copied all the same. */
export const isTroubleOfUnit = (error: unknown): boolean =>
  isCode(error, 'checkpoint_changed', 'io_error', 'unsafe_path')

const isCode = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof AgentError && codes.includes(error.code)
