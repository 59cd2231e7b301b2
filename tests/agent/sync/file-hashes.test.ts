import { createHash } from 'node:crypto'
import { appendFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { createHashFile } from '../../../agent/sync/file-hashes.ts'
import { createSyncStore } from '../../../agent/sync/sync-store.ts'
import { openTestDatabase } from '../../support/open-test-database.ts'

const BYTES = Buffer.alloc(64 * 2 ** 20, 'weights')
const { signal } = new AbortController()

const startHash = () => {
  const opened = openTestDatabase()
  onTestFinished(() => opened.close())
  const path = join(opened.folder, 'model.safetensors')
  writeFileSync(path, BYTES)
  const hashFile = createHashFile(createSyncStore(opened.db, () => new Date()))
  return { path, hashed: hashFile(path, { algorithms: ['sha256'], signal }) }
}

const isOpen = (path: string): boolean =>
  readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path
    } catch {
      return false
    }
  })

test('S4: a file that is unlinked while it is hashed keeps its bytes, and has its hash', async () => {
  const { path, hashed } = startHash()
  while (!isOpen(path)) await nextTurn()
  rmSync(path)
  expect((await hashed).sha256).toBe(createHash('sha256').update(BYTES).digest('hex'))
})

test('S1: a file that is written to while it is hashed has none', async () => {
  const { path, hashed } = startHash()
  const writing = setInterval(() => appendFileSync(path, 'more'), 1)
  await expect(hashed.finally(() => clearInterval(writing))).rejects.toThrow('changed while it was read')
})
