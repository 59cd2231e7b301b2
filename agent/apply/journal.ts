import { z } from 'zod'
import type { EventRecord } from '../../shared/contract/records.ts'
import type { AgentEvent } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'

/** Enough for weeks of runs; older events are dropped a thousand at a time. */
const KEEP_EVENTS = 100_000
const PRUNE_EVERY = 1_000

/** The journal: what happened on this box, in order. Readers pull from it, so a slow one costs no memory. */
export type Journal = {
  /** Records an event and wakes the readers. Never throws: a full disk must not stop the work that is reported. */
  readonly append: (event: AgentEvent) => void
  /** Up to `limit` events with an id above `afterId`, oldest first. */
  readonly read: (afterId: number, limit: number) => readonly EventRecord[]
  /** The id of the newest event; 0 before the first. */
  readonly lastId: () => number
  /** Calls `wake` after each append until the returned function is called. */
  readonly subscribe: (wake: () => void) => () => void
}

type Row = { id: number; at: string; type: string; subject: string; data: string }
const Data = z.record(z.string(), z.unknown())

export const createJournal = (deps: {
  readonly db: Database
  readonly clock: Clock
  /** Takes secrets out: nothing reaches the journal unredacted. */
  readonly redact: (text: string) => string
  readonly onFailure: (error: unknown) => void
}): Journal => {
  const insert = deps.db.prepare<[string, string, string, string]>(
    'INSERT INTO events (at, type, subject, data) VALUES (?, ?, ?, ?)',
  )
  const select = deps.db.prepare<[number, number], Row>(
    'SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?',
  )
  const newest = deps.db.prepare<[], { id: number }>(
    "SELECT seq AS id FROM sqlite_sequence WHERE name = 'events'",
  )
  const prune = deps.db.prepare<[number]>('DELETE FROM events WHERE id <= ?')
  const readers = new Set<() => void>()

  return {
    append: (event) => {
      try {
        const { lastInsertRowid } = insert.run(
          deps.clock.now().toISOString(),
          event.type,
          deps.redact(event.subject),
          deps.redact(JSON.stringify(event.data ?? {})),
        )
        const id = Number(lastInsertRowid)
        if (id % PRUNE_EVERY === 0) prune.run(id - KEEP_EVENTS)
      } catch (error) {
        deps.onFailure(error)
      }
      for (const wake of readers) wake()
    },
    read: (afterId, limit) =>
      select.all(afterId, limit).map((row) => ({ ...row, data: Data.parse(JSON.parse(row.data)) })),
    lastId: () => newest.get()?.id ?? 0,
    subscribe: (wake) => {
      readers.add(wake)
      return () => readers.delete(wake)
    },
  }
}
