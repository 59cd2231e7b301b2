import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { holds } from '../support/checkpoint.ts'
import type { Pull } from '../support/pull.ts'
import { CHUNKS, createPull, MIB, NAME } from '../support/pull.ts'

let at: Pull
beforeEach(async () => {
  at = await createPull()
})
afterEach(() => at.box.close())

test('case S45: a pull that was killed goes on where it was', async () => {
  await at.killed()
  expect(existsSync(at.target)).toBe(false)
  const { code } = await at.run()
  expect(code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
  expect(at.chunkRequests()).toBe(CHUNKS - 3)
  expect(readdirSync(at.to)).toEqual([NAME])
})

test('case S46: a part that was damaged between two attempts is fetched again, and no other', async () => {
  await at.killed()
  const journal = readFileSync(join(`${at.target}.partial`, 'journal.jsonl'), 'utf8')
  const line = JSON.parse(journal.split('\n').find(Boolean) ?? '') as { file: string; chunk: number }
  const path = line.file.slice(line.file.indexOf(' ') + 1)
  const file = openSync(join(`${at.target}.partial`, 'files', path), 'r+')
  writeSync(file, Buffer.alloc(4), 0, 4, line.chunk * 8 * MIB)
  closeSync(file)
  const { code } = await at.run()
  expect(code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
  expect(at.chunkRequests()).toBe(CHUNKS - 2)
})

test('a journal whose last line was torn costs that chunk and no more', async () => {
  await at.killed()
  const journal = join(`${at.target}.partial`, 'journal.jsonl')
  writeFileSync(journal, readFileSync(journal, 'utf8').slice(0, -20))
  const { code } = await at.run()
  expect(code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
  expect(at.chunkRequests()).toBe(CHUNKS - 2)
})

const isRoot = process.getuid?.() === 0
test.skipIf(!isRoot)(
  'case S51 (needs root for a small file system): a disk that is too small is 3, before a byte is fetched',
  async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', at.to])
    try {
      const { code, stdout } = await at.run('--json')
      expect(code).toBe(EXIT.refused)
      expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('disk_too_small')
      expect(at.chunkRequests()).toBe(0)
      expect(existsSync(at.target)).toBe(false)
      expect(existsSync(`${at.target}.partial`)).toBe(false)
    } finally {
      execFileSync('umount', [at.to])
    }
  },
)

test('two pulls do not work on one folder: the second is refused with 8', async () => {
  const release = at.holdAfter(1)
  const first = at.start()
  await at.waitForChunks(1)
  const second = await at.run()
  expect(second.code).toBe(EXIT.busy)
  expect(second.stderr).toContain(`process ${first.child.pid ?? ''}`)
  first.child.kill('SIGINT')
  expect((await first.ended).code).toBe(EXIT.interrupted)
  release()
  expect((await at.run()).code).toBe(EXIT.done)
})

test('case S52: a machine that sleeps while its connections die goes on when it wakes', async () => {
  const release = at.holdAfter(2)
  const sleeper = at.start()
  await at.waitForChunks(2)
  sleeper.child.kill('SIGSTOP')
  await at.box.stop()
  release()
  await at.box.start()
  sleeper.child.kill('SIGCONT')
  expect((await sleeper.ended).code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
})

test('a lock whose process id belongs to another process by now is taken over', async () => {
  const partial = `${at.target}.partial`
  mkdirSync(partial)
  writeFileSync(join(partial, 'lock'), `${process.pid} a-boot-long-ago:1\n`)
  expect((await at.run()).code).toBe(EXIT.done)
})
