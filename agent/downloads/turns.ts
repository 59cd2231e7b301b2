import type { FileOutcome, PlannedFile } from './planned-file.ts'

export type Turns = {
  /** The second who asks for a destination waits for the first, then finds the file there. */
  readonly inTurn: <T>(path: string, work: () => Promise<T>) => Promise<T>
  /**
   * One transfer for each destination and for each content at a time, however many ask: whoever waited for the same content
   * under another name is told where it came to, and copies it.
   */
  readonly fetchInTurn: (
    file: PlannedFile,
    fetch: (twin: string | undefined) => Promise<FileOutcome>,
    /** Called when nobody else is at work on the destination. */
    onTurn?: () => void,
  ) => Promise<FileOutcome>
}

/** `limit` bounds how many files are fetched at once; who waits for another one takes no place of it. */
export const createTurns = (limit: <T>(work: () => Promise<T>) => Promise<T>): Turns => {
  const atWork = new Map<string, Promise<unknown>>()
  const brought = new Map<string, string>()

  const inTurn = async <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const before = atWork.get(key)
    // Why the one before gave up is its own affair.
    const mine = (before ?? Promise.resolve()).then(work, work)
    atWork.set(key, mine)
    try {
      return await mine
    } finally {
      if (atWork.get(key) === mine) atWork.delete(key)
    }
  }

  return {
    inTurn,
    fetchInTurn: (file, fetch, onTurn) =>
      inTurn(file.path, async () => {
        onTurn?.()
        const key = contentKey(file)
        try {
          return await inTurn(key, async () => {
            const outcome = await limit(() => fetch(brought.get(key)))
            if (outcome.state === 'done') brought.set(key, file.path)
            return outcome
          })
        } finally {
          if (!atWork.has(key)) brought.delete(key)
        }
      }),
  }
}

/** What two destinations have in common that get the same bytes. Never a path. */
const contentKey = (file: PlannedFile): string =>
  file.sha256 === null ? `from ${file.from[0] ?? ''}` : `sha256 ${file.sha256}`
