import { AgentError } from '../../shared/contract/errors.ts'
import { batchUnits } from './batch-units.ts'
import type { ObservedUnit } from './observe-units.ts'
import { newestFirst } from './order-units.ts'

/** A unit that changes under this many copies in a row is in trouble, not at work. */
const CHANGED_TOO_OFTEN = 5

export type CopyTogether = (units: readonly ObservedUnit[], signal: AbortSignal) => Promise<void>

/** Copies units, small ones together, and remembers which ones fail. */
export const createPendingCopier = (copy: CopyTogether) => {
  const changedInARow = new Map<string, number>()
  const failedUnits = new Set<string>()
  /** Failed alone, for a reason that may be their own: they come last, so that they hold nothing back. */
  const suspects = new Set<string>()

  const succeeded = ({ name }: ObservedUnit): void => {
    changedInARow.delete(name)
    failedUnits.delete(name)
    suspects.delete(name)
  }

  /** True when it settles again first: the next look sees its new fingerprint. */
  const mayChange = ({ name }: ObservedUnit, error: unknown): boolean => {
    const times = (changedInARow.get(name) ?? 0) + 1
    if (!isCode(error, 'checkpoint_changed') || times >= CHANGED_TOO_OFTEN) return false
    changedInARow.set(name, times)
    return true
  }

  return {
    hasFailed: (unit: string): boolean => failedUnits.has(unit),
    /** Newest first, pointers last. One unit's trouble does not stop the others. @throws the first error */
    copyAll: async (
      units: readonly ObservedUnit[],
      { signal, goesOn }: { signal: AbortSignal; goesOn: () => boolean },
    ): Promise<void> => {
      const errors: unknown[] = []
      const complete = units.filter(({ verdict }) => verdict.state === 'complete').sort(newestFirst)
      const isSuspect = ({ name }: ObservedUnit): boolean => suspects.has(name)
      const queue = [
        ...batchUnits(complete.filter((unit) => !isSuspect(unit))),
        ...complete.filter(isSuspect).map((unit) => [unit]),
      ]
      for (let batch = queue.shift(); batch && goesOn(); batch = queue.shift()) {
        try {
          await copy(batch, signal)
          batch.forEach(succeeded)
        } catch (error) {
          signal.throwIfAborted()
          const [unit, ...others] = batch
          if (!unit) continue
          if (others.length > 0 && isTroubleOfOne(error)) {
            queue.unshift(...halvesOf(batch))
            continue
          }
          if (others.length === 0 && mayChange(unit, error)) continue
          for (const one of batch) failedUnits.add(one.name)
          if (others.length === 0 && isTroubleOfOne(error)) suspects.add(unit.name)
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

/** True for what may ail one unit alone: of units that failed together the others are worth another try. */
export const isTroubleOfOne = (error: unknown): boolean =>
  isTroubleOfUnit(error) || isCode(error, 'sync_failed')

/** A batch that failed is tried by halves, so that the one unit that ails it is found in a few tries. */
export const halvesOf = <T>(batch: readonly T[]): readonly (readonly T[])[] => {
  const middle = Math.ceil(batch.length / 2)
  return [batch.slice(0, middle), batch.slice(middle)]
}

const isCode = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof AgentError && codes.includes(error.code)
