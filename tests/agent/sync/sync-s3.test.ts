import { mkdirSync, readdirSync, readFileSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { checkRemote } from '../../../agent/sync/check-remote.ts'
import { findRclone, serveS3 } from '../../support/rclone.ts'
import { createSyncBox, safetensors, sha256 } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined
const KEY = 'key-of-the-box'
const SECRET = 'secret-of-the-box'

/** A box and an S3 server with one bucket, `bucket`. */
const createS3Box = async () => {
  if (skipped) throw new Error(rclone.reason)
  const box = createSyncBox({ searchPath: `${rclone.folder}:/usr/bin:/bin` })
  mkdirSync(join(box.remote, 'bucket'))
  const server = await serveS3(rclone.path, { folder: box.remote, key: KEY, secret: SECRET, isAlone: true })
  const options = {
    provider: 'Rclone',
    endpoint: server.url,
    access_key_id: KEY,
    secret_access_key: SECRET,
  }
  const plan = (spec = {}, change = {}, to = 'bucket/run-1') =>
    box.plan(spec, { remote: { name: 'store', type: 's3', options: { ...options, ...change } }, to })
  return {
    box,
    plan,
    check: (change: Readonly<Record<string, string>>, to?: string) =>
      checkRemote(plan({}, change, to), {
        searchPath: `${rclone.folder}:/usr/bin:/bin`,
        temporaryFolder: box.temporaryFolder,
        environment: {},
        signal: AbortSignal.timeout(50_000),
      }),
    [Symbol.asyncDispose]: async () => {
      await box[Symbol.asyncDispose]()
      await server.close()
    },
  }
}

describe.skipIf(skipped)(
  skipped ? `s3 (skipped: ${rclone.reason})` : `s3 by rclone ${rclone.version}`,
  () => {
    test('a copy in several parts is proven by hash', async () => {
      await using s3 = await createS3Box()
      const { box } = s3
      box.write('checkpoint-1/model.safetensors', safetensors('a', 40_000_000))
      box.write('checkpoint-1/trainer_state.json', '{"global_step": 1}')
      box.sync.configure([s3.plan()])
      expect(await box.runNow()).toMatchObject({ problem: null, pendingFiles: 0 })
      expect(box.events.find(({ type }) => type === 'sync.copied')?.data).toMatchObject({
        verifiedBy: 'hash',
      })
      const stored = readFileSync(join(box.remote, 'bucket/run-1/checkpoint-1/model.safetensors'))
      expect(sha256(stored)).toBe(sha256(safetensors('a', 40_000_000)))
    })

    test('keep_local removes here what is proven there by hash', async () => {
      await using s3 = await createS3Box()
      const { box } = s3
      for (const step of [1, 2, 3])
        utimesSync(box.write(`checkpoint-${step}/model.safetensors`, safetensors(`${step}`)), step, step)
      box.sync.configure([s3.plan({ keep_local: 1 })])
      expect((await box.runNow()).problem).toBeNull()
      expect(readdirSync(box.path)).toEqual(['checkpoint-3'])
      expect(readdirSync(join(box.remote, 'bucket/run-1')).sort()).toEqual([
        '.gpu-agent',
        'checkpoint-1',
        'checkpoint-2',
        'checkpoint-3',
      ])
    })

    test('S34: the older version is kept beside the newer one', async () => {
      await using s3 = await createS3Box()
      const { box } = s3
      box.write('model.safetensors', safetensors('a'))
      box.sync.configure([s3.plan()])
      await box.runNow()
      box.write('model.safetensors', safetensors('b'))
      expect((await box.runNow()).problem).toBeNull()
      const folder = join(box.remote, 'bucket/run-1')
      const kept = readdirSync(folder).find((name) => /^model\.safetensors~[0-9a-f]{8}$/.test(name))!
      expect(readFileSync(join(folder, kept))).toEqual(safetensors('a'))
      expect(readFileSync(join(folder, 'model.safetensors'))).toEqual(safetensors('b'))
    })

    test('a prefix that does not exist yet is fine, a bucket that does not is a problem of its own', async () => {
      await using s3 = await createS3Box()
      expect(await s3.check({})).toBeNull()
      const problem = await s3.check({}, 'no-such-bucket/run-1')
      expect(problem).toMatchObject({ code: 'sync_config' })
      expect(problem?.message).toContain('no-such-bucket')
    })

    test('S17: a wrong key and a wrong secret are sync_auth, and neither is in the message', async () => {
      await using s3 = await createS3Box()
      const wrongSecret = await s3.check({ secret_access_key: 'mistyped-secret' })
      const wrongKey = await s3.check({ access_key_id: 'mistyped-key' })
      expect([wrongSecret?.code, wrongKey?.code]).toEqual(['sync_auth', 'sync_auth'])
      expect(JSON.stringify([wrongSecret, wrongKey])).not.toMatch(/mistyped|secret-of-the-box/)
    })
  },
)
