import { afterEach, beforeEach, expect, test } from 'vitest'
import { createJournal } from '../../../agent/apply/journal.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openTestDatabase } from '../../support/open-test-database.ts'

let opened: ReturnType<typeof openTestDatabase>
beforeEach(() => {
  opened = openTestDatabase()
})
afterEach(() => opened.close())

const journalWith = (failures: unknown[] = []) =>
  createJournal({
    db: opened.db,
    clock: systemClock,
    redact: (text) => text.replaceAll('hunter2', '[secret]'),
    onFailure: (error) => failures.push(error),
  })

test('events are read back in order from any id, a page at a time', () => {
  const journal = journalWith()
  for (const subject of ['a', 'b', 'c']) journal.append({ type: 'download.done', subject, data: { size: 1 } })
  expect(journal.read(0, 2).map((event) => event.subject)).toEqual(['a', 'b'])
  expect(journal.read(2, 10)).toMatchObject([
    { id: 3, type: 'download.done', subject: 'c', data: { size: 1 } },
  ])
  expect(journal.lastId()).toBe(3)
})

test('a reader is woken by each event until it unsubscribes', () => {
  const journal = journalWith()
  let woken = 0
  const unsubscribe = journal.subscribe(() => (woken += 1))
  journal.append({ type: 'run.created', subject: 'r' })
  unsubscribe()
  journal.append({ type: 'run.created', subject: 'r' })
  expect(woken).toBe(1)
})

test('a secret in a subject or in data never reaches the database', () => {
  const journal = journalWith()
  journal.append({ type: 'run.problem', subject: 'hunter2', data: { said: 'token hunter2 refused' } })
  expect(JSON.stringify(journal.read(0, 10))).not.toContain('hunter2')
})

test('a journal that cannot be written reports it and does not stop the work that is told', () => {
  const failures: unknown[] = []
  const journal = journalWith(failures)
  opened.db.exec('DROP TABLE events')
  journal.append({ type: 'run.created', subject: 'r' })
  expect(failures).toHaveLength(1)
})
