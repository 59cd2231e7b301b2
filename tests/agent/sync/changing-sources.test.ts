import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { findRclone, serveWebdav } from '../../support/rclone.ts'
import type { SyncBox } from './support/sync-box.ts'
import { createSyncBox, safetensors, sha256, until } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined
const BYTES = 8_000_000

/** A webdav server that takes 4 MB a second, so that there is time to do harm while a copy is under way. */
const createSlowBox = async () => {
  if (skipped) throw new Error(rclone.reason)
  const box = createSyncBox({ searchPath: `${rclone.folder}:/usr/bin:/bin` })
  const server = await serveWebdav(rclone.path, {
    folder: box.remote,
    user: 'me',
    password: 'secret password',
    bytesPerSecond: '4M',
  })
  const plan = box.plan(
    { every: '1h' },
    {
      remote: {
        name: 'dav',
        type: 'webdav',
        options: { url: server.url, user: 'me', pass: 'secret password' },
      },
      to: 'run',
    },
  )
  box.sync.configure([plan])
  return {
    box,
    underWay: () => until(() => sizeOf(join(box.remote, 'run/checkpoint-1/model.safetensors')) > 500_000),
    [Symbol.asyncDispose]: async () => {
      await box[Symbol.asyncDispose]()
      await server.close()
    },
  }
}

const sizeOf = (path: string): number => (existsSync(path) ? statSync(path).size : 0)
const recordOf = (box: SyncBox): { files: { sha256: string; path: string }[] } | undefined => {
  const path = join(box.remote, 'run/.gpu-agent/checkpoint-1.json')
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as never) : undefined
}
const remoteModel = (box: SyncBox): string =>
  sha256(readFileSync(join(box.remote, 'run/checkpoint-1/model.safetensors')))

/** Overwrites 64 bytes near the end of a file, where the copy has not been yet. */
const rewriteEnd = async (path: string): Promise<void> => {
  const file = await open(path, 'r+')
  await file.write(Buffer.alloc(64, 0xee), 0, 64, BYTES - 1000)
  await file.close()
}

describe.skipIf(skipped)(
  skipped ? `changing sources (skipped: ${rclone.reason})` : 'changing sources',
  () => {
    test('S1: a file rewritten in place under the copy is not committed, but copied again', async () => {
      await using slow = await createSlowBox()
      const { box } = slow
      const path = box.write('checkpoint-1/model.safetensors', safetensors('a', BYTES))
      const first = box.runNow()
      await slow.underWay()
      await rewriteEnd(path)
      expect(await first).toMatchObject({ pendingFiles: 1 })
      expect(recordOf(box)).toBeUndefined()
      expect(await box.runNow()).toMatchObject({ pendingFiles: 0, problem: null })
      expect(remoteModel(box)).toBe(sha256(readFileSync(path)))
      expect(recordOf(box)?.files[0]?.sha256).toBe(sha256(readFileSync(path)))
    })

    test('S2: the same with the modification time set back', async () => {
      await using slow = await createSlowBox()
      const { box } = slow
      const path = box.write('checkpoint-1/model.safetensors', safetensors('a', BYTES))
      const { atime, mtime } = statSync(path)
      utimesSync(path, atime, mtime)
      const first = box.runNow()
      await slow.underWay()
      await rewriteEnd(path)
      utimesSync(path, atime, mtime)
      expect(await first).toMatchObject({ pendingFiles: 1 })
      expect(recordOf(box)).toBeUndefined()
      expect(await box.runNow()).toMatchObject({ pendingFiles: 0, problem: null })
      expect(remoteModel(box)).toBe(sha256(readFileSync(path)))
    })

    test('S3: a file replaced under the copy is stored as it was, then as it is, with the older one kept', async () => {
      await using slow = await createSlowBox()
      const { box } = slow
      const path = box.write('checkpoint-1/model.safetensors', safetensors('a', BYTES))
      const old = sha256(readFileSync(path))
      const first = box.runNow()
      await slow.underWay()
      writeFileSync(join(box.home, 'new'), safetensors('b', BYTES))
      renameSync(join(box.home, 'new'), path)
      await first
      expect(remoteModel(box)).toBe(old)
      expect(recordOf(box)?.files[0]?.sha256).toBe(old)
      expect(await box.runNow()).toMatchObject({ pendingFiles: 0, problem: null })
      expect(remoteModel(box)).toBe(sha256(readFileSync(path)))
      const kept = readdirSync(join(box.remote, 'run')).find((name) => name.startsWith('checkpoint-1~'))!
      expect(sha256(readFileSync(join(box.remote, 'run', kept, 'model.safetensors')))).toBe(old)
    })

    test('S4: a checkpoint rotated away under the copy is stored whole', async () => {
      await using slow = await createSlowBox()
      const { box } = slow
      const path = box.write('checkpoint-1/model.safetensors', safetensors('a', BYTES))
      box.write('checkpoint-1/trainer_state.json', '{"global_step": 1}')
      const whole = sha256(readFileSync(path))
      const first = box.runNow()
      await slow.underWay()
      rmSync(join(box.path, 'checkpoint-1'), { recursive: true })
      await first
      expect(remoteModel(box)).toBe(whole)
      expect(recordOf(box)?.files.map((file) => file.path)).toEqual([
        'checkpoint-1/model.safetensors',
        'checkpoint-1/trainer_state.json',
      ])
      expect(box.sync.rows()[0]?.problem).toBeNull()
    })

    test('S6: a file cut off under the copy is not committed', async () => {
      await using slow = await createSlowBox()
      const { box } = slow
      const path = box.write('checkpoint-1/model.safetensors', safetensors('a', BYTES))
      const first = box.runNow()
      await slow.underWay()
      writeFileSync(path, safetensors('a', BYTES).subarray(0, BYTES / 2))
      await first
      expect(recordOf(box)).toBeUndefined()
      await box.runNow()
      expect(recordOf(box)).toBeUndefined()
      expect(box.sync.rows()[0]).toMatchObject({ pendingFiles: 1 })
    })
  },
)

test('S1 on a local path: what is stored is what was hashed, or nothing', async () => {
  await using box = createSyncBox()
  const path = box.write('checkpoint-1/model.safetensors', safetensors('a', 20 * BYTES))
  box.sync.configure([box.plan()])
  const first = box.runNow()
  await until(() => existsSync(join(box.remote, '.gpu-agent/incoming')))
  const file = await open(path, 'r+')
  await file.write(Buffer.alloc(64, 0xee), 0, 64, 20 * BYTES - 1000)
  await file.close()
  await first
  expect(existsSync(join(box.remote, '.gpu-agent/checkpoint-1.json'))).toBe(false)
  expect(await box.runNow()).toMatchObject({ pendingFiles: 0, problem: null })
  expect(sha256(readFileSync(join(box.remote, 'checkpoint-1/model.safetensors')))).toBe(
    sha256(readFileSync(path)),
  )
})
