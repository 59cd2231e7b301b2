import { existsSync, mkdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { makeHome, removeHome, startAgent } from '../../support/agent-process.ts'
import { findRclone, serveWebdav } from '../../support/rclone.ts'
import type { SyncBox } from './support/sync-box.ts'
import { createSyncBox, safetensors, until } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined

const createServer = async (program: string, options: Parameters<typeof serveWebdav>[1]) => {
  const server = await serveWebdav(program, options)
  return { url: server.url, [Symbol.asyncDispose]: () => server.close() }
}

const never = new AbortController().signal
const flush = (box: SyncBox, deadlineMs: number) => box.sync.flush({ deadlineMs, signal: never })

const writeStep = (box: SyncBox, step: number): void => {
  for (const path of [
    box.write(`checkpoint-${step}/model.safetensors`, safetensors(`${step}`)),
    box.write(`checkpoint-${step}/trainer_state.json`, `{"global_step": ${step}}`),
  ])
    utimesSync(path, step, step)
}
const names = (units: readonly { unit: string }[]): string[] => units.map(({ unit }) => unit)

test('what a marker says to be complete is flushed without rest, the newest first; the other is lost', async () => {
  await using box = createSyncBox()
  writeStep(box, 100)
  writeStep(box, 200)
  writeFileSync(join(box.path, 'notes.txt'), 'half a sent')
  box.sync.configure([box.plan({ settle: '1h', every: '4h' })])
  const report = await flush(box, 20_000)
  expect(names(report.flushed)).toEqual(['checkpoint-200', 'checkpoint-100'])
  expect(report.lost).toEqual([{ sync: 'checkpoints', unit: 'notes.txt' }])
  expect(report.unflushedBytes).toBe(11)
  expect(existsSync(join(box.remote, '.gpu-agent/checkpoint-200.json'))).toBe(true)
})

test('S41: 5 s for 20 GB: what is small arrives, of the large one its small files, never as if it were whole', async () => {
  await using box = createSyncBox()
  writeStep(box, 100)
  box.write('checkpoint-900/adapter_config.json', '{}')
  truncateSync(box.write('checkpoint-900/pytorch_model.bin', ''), 20e9)
  box.write('checkpoint-900/trainer_state.json', '{"global_step": 900}')
  box.sync.configure([box.plan({ settle: '1h', every: '4h' })])
  const report = await flush(box, 5_000)
  expect(names(report.flushed)).toEqual(['checkpoint-100'])
  expect(names(report.lost)).toEqual(['checkpoint-900'])
  expect(report.unflushedBytes).toBeGreaterThan(20e9)
  expect(box.storedNames()).toEqual([
    'checkpoint-100/model.safetensors',
    'checkpoint-100/trainer_state.json',
    'checkpoint-900/adapter_config.json',
  ])
  expect(existsSync(join(box.remote, '.gpu-agent/checkpoint-900.json'))).toBe(false)
})

test('of a unit that lies on the remote in an older version no part is replaced', async () => {
  await using box = createSyncBox()
  box.write('checkpoint-900/config.json', 'old')
  box.sync.configure([box.plan()])
  await box.runNow()
  box.write('checkpoint-900/config.json', 'new')
  truncateSync(box.write('checkpoint-900/pytorch_model.bin', ''), 20e9)
  box.write('checkpoint-900/.complete', '')
  expect(names((await flush(box, 5_000)).lost)).toEqual(['checkpoint-900'])
  expect(box.stored('checkpoint-900/config.json')).toBe('old')
})

test('a remote that fails ends the flush, and the report says what is lost', async () => {
  await using box = createSyncBox()
  writeStep(box, 100)
  box.sync.configure([{ ...box.plan(), to: join(box.home, 'file/below') }])
  writeFileSync(join(box.home, 'file'), 'not a folder')
  expect(names((await flush(box, 5_000)).lost)).toEqual(['checkpoint-100'])
})

describe.skipIf(skipped)(
  skipped ? `a copy under way (skipped: ${rclone.reason})` : 'a copy under way',
  () => {
    test('that cannot end in time makes way for what can', async () => {
      if (skipped) throw new Error(rclone.reason)
      await using box = createSyncBox({ searchPath: `${rclone.folder}:/usr/bin:/bin` })
      await using server = await createServer(rclone.path, {
        folder: box.remote,
        user: 'me',
        password: 'a password',
        bytesPerSecond: '2M',
      })
      const options = { url: server.url, user: 'me', pass: 'a password' }
      box.sync.configure([box.plan({}, { remote: { name: 'dav', type: 'webdav', options }, to: 'run' })])
      box.write('checkpoint-1/model.safetensors', safetensors('1', 100_000_000))
      box.serve()
      await until(() => (box.sync.rows()[0]?.copying?.etaSeconds ?? 0) > 8)
      writeStep(box, 2)
      const report = await flush(box, 7_000)
      expect(names(report.flushed)).toEqual(['checkpoint-2'])
      expect(names(report.lost)).toEqual(['checkpoint-1'])
      expect(readFileSync(join(box.remote, 'run/checkpoint-2/model.safetensors'))).toEqual(safetensors('2'))
    })
  },
)

test('T49: an agent that is stopped sends what is small and complete, and ends in order', async () => {
  const home = makeHome()
  const agent = await startAgent({ home })
  const manifest = join(home, 'manifest.yaml')
  writeFileSync(
    manifest,
    `version: 1\nname: t49\nsync:\n  - {name: s, path: ${home}/out, to: ${home}/remote, every: 1h, settle: 1h}\n`,
  )
  expect((await agent.agentctl(['apply', manifest])).code, agent.log()).toBe(0)
  const write = (name: string, data: string | Uint8Array): string => {
    const path = join(home, 'out', name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, data)
    return path
  }
  write('checkpoint-7/trainer_state.json', '{"global_step": 7}')
  write('checkpoint-7/adapter_model.safetensors', safetensors('a'))
  write('checkpoint-8/trainer_state.json', '{"global_step": 8}')
  truncateSync(write('checkpoint-8/pytorch_model.bin', ''), 5e9)
  await agent.kill('SIGTERM')
  expect(agent.child.exitCode).toBe(0)
  expect(existsSync(join(home, 'remote/.gpu-agent/checkpoint-7.json'))).toBe(true)
  expect(existsSync(join(home, 'remote/checkpoint-8'))).toBe(false)
  await removeHome(home)
})
