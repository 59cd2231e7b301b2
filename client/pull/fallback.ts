import type { AgentError } from '../../shared/contract/errors.ts'
import { asAgentError } from '../exit.ts'
import type { RemoteCopy } from './remote-copy.ts'

/** What is read while the box is away. */
export type Fallback = {
  /** The copy to read instead; undefined: the box. @param awayMs how long nothing has come from the box */
  instead(awayMs: number): Promise<RemoteCopy | undefined>
  /** The copy could not be read. */
  failed(error: AgentError): void
}

/** A restart takes less; after this a copy elsewhere is as good. */
const AWAY_MS = 20_000
/** rclone has repeated each of them by itself. */
const MOST_FAILURES = 3

/** Looks for the copy once, when it is needed; from then on it is read until the end, unless it fails. */
export const createFallback = (deps: {
  /** The copy, where it is known already that the box is away. */
  readonly copy: RemoteCopy | undefined
  /** Undefined where there is none to be found. */
  readonly find: (() => Promise<RemoteCopy>) | undefined
  readonly note: (text: string) => void
}): Fallback => {
  let found: Promise<RemoteCopy | undefined> | undefined = deps.copy && Promise.resolve(deps.copy)
  let failures = 0

  const look = async (): Promise<RemoteCopy | undefined> => {
    try {
      const copy = await deps.find?.()
      if (copy === undefined) return undefined
      deps.note(`the box stays away; going on from ${copy.place}`)
      return copy
    } catch (error) {
      deps.note(`the box stays away, and its remote is no help: ${asAgentError(error).message}`)
      return undefined
    }
  }

  return {
    instead: (awayMs) => {
      if (awayMs > AWAY_MS) found ??= look()
      return found ?? Promise.resolve(undefined)
    },
    failed: (error) => {
      failures += 1
      if (failures < MOST_FAILURES) return
      found = Promise.resolve(undefined)
      deps.note(`${error.message}; asking the box again`)
    },
  }
}
