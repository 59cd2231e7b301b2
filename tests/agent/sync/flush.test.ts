import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FlushRecord } from '../../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../../support/agent-process.ts'
import { rawRequest } from '../../support/raw-request.ts'
import { findRclone, serveWebdav } from '../../support/rclone.ts'
import type { SyncBox } from './support/sync-box.ts'
import { createSyncBox, safetensors, until } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined

const createServer = async (program: string, options: Parameters<typeof serveWebdav>[1]) => {
  const server = await serveWebdav(program, options)
  return { url: server.url, [Symbol.asyncDispose]: () => server.close() }
}

/** Answers what is asked before a copy, and then stands still. */
const STUCK_RCLONE = `#!/bin/sh
case "$1" in
version) echo 'rclone v1.70.0';;
config) echo '[{"Name": "webdav", "Prefix": "webdav", "Options": []}]';;
lsjson) echo '[]';;
*) exec sleep 1000;;
esac
`

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

test('what a marker says to be complete is flushed without rest, the newest first; the other is left', async () => {
  await using box = createSyncBox()
  writeStep(box, 100)
  writeStep(box, 200)
  writeFileSync(join(box.path, 'notes.txt'), 'half a sent')
  box.sync.configure([box.plan({ settle: '1h', every: '4h' })])
  const report = await flush(box, 20_000)
  expect(names(report.stored)).toEqual(['checkpoint-200', 'checkpoint-100'])
  expect(report).toMatchObject({
    left: [{ sync: 'checkpoints', unit: 'notes.txt', isCheckpoint: false, reason: 'changed a moment ago' }],
    leftBytes: 11,
    problems: [],
  })
  expect(box.events.at(-1)).toMatchObject({
    type: 'sync.flushed',
    data: { stored: ['checkpoint-200', 'checkpoint-100'], left: [{ unit: 'notes.txt' }] },
  })
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
  expect(names(report.stored)).toEqual(['checkpoint-100'])
  expect(names(report.left)).toEqual(['checkpoint-900'])
  expect(report.left[0]?.reason).toMatch(/^needs about 200\d s at 10\.0 MB\/s; [0-4] s were left$/)
  expect(report.leftBytes).toBeGreaterThan(20e9)
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
  expect(names((await flush(box, 5_000)).left)).toEqual(['checkpoint-900'])
  expect(box.stored('checkpoint-900/config.json')).toBe('old')
})

test('a remote that fails ends the flush, and the report says what is left and why', async () => {
  await using box = createSyncBox()
  writeStep(box, 100)
  box.sync.configure([{ ...box.plan(), to: join(box.home, 'file/below') }])
  writeFileSync(join(box.home, 'file'), 'not a folder')
  const report = await flush(box, 5_000)
  expect(report.left).toMatchObject([{ unit: 'checkpoint-100', isCheckpoint: true, state: 'failed' }])
  expect(report.problems).toMatchObject([{ subject: 'checkpoints' }])
})

test('where there is time a flush waits for what only has to rest', async () => {
  await using box = createSyncBox()
  box.write('loss.csv', '1,2')
  box.sync.configure([box.plan({ settle: '200ms', every: '4h' })])
  expect(await flush(box, 60_000)).toMatchObject({ stored: [{ unit: 'loss.csv' }], left: [] })
})

test('a folder that cannot be looked into is a problem of the flush, not an empty report', async () => {
  await using box = createSyncBox()
  box.sync.configure([box.plan({ path: join(box.home, 'file') })])
  writeFileSync(join(box.home, 'file'), '')
  expect(await flush(box, 5_000)).toMatchObject({ left: [], problems: [{ code: 'destination_invalid' }] })
})

test('a remote that stands still does not hold a flush beyond its deadline, nor does a copy under way', async () => {
  const bin = mkdtempSync(join(tmpdir(), 'gpu-agent-stub-'))
  writeFileSync(join(bin, 'rclone'), STUCK_RCLONE, { mode: 0o755 })
  await using box = createSyncBox({ searchPath: `${bin}:/usr/bin:/bin` })
  box.sync.configure([box.plan({}, { remote: { name: 'dav', type: 'webdav', options: {} }, to: 'run' })])
  writeStep(box, 1)
  box.serve()
  await until(() => box.sync.rows()[0]?.state === 'copying')
  const report = await flush(box, 1_000)
  expect(report).toMatchObject({
    stored: [],
    left: [{ unit: 'checkpoint-1', state: 'failed' }],
    problems: [{ code: 'deadline' }],
  })
  rmSync(bin, { recursive: true })
})

describe.skipIf(skipped)(
  skipped ? `a copy under way (skipped: ${rclone.reason})` : 'a copy under way',
  () => {
    // At its beginning a copy looks as fast as the buffers on its way.
    test.each([
      ['at its beginning', 0],
      ['once it is known how slow it is', 60],
    ])('that cannot end in time makes way for what can, %s', async (_, etaSeconds) => {
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
      truncateSync(box.write('checkpoint-1/pytorch_model.bin', ''), 400e6)
      box.serve()
      await until(() => (box.sync.rows()[0]?.copying?.etaSeconds ?? -1) >= etaSeconds)
      writeStep(box, 2)
      await until(() => box.sync.rows()[0]?.pending.some(({ unit }) => unit === 'checkpoint-2') ?? false)
      const report = await flush(box, 30_000)
      expect(names(report.stored), JSON.stringify(report)).toEqual(['checkpoint-2'])
      expect(names(report.left)).toEqual(['checkpoint-1'])
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

test('S42: what `down` asks for: the checkpoints that are left, each with the reason, and how long they would take', async () => {
  const home = makeHome()
  const agent = await startAgent({ home })
  const manifest = join(home, 'manifest.yaml')
  writeFileSync(
    manifest,
    `version: 1\nname: s42\nsync:\n  - {name: s, path: ${home}/out, to: ${home}/remote, every: 1h, settle: 1h}\n`,
  )
  expect((await agent.agentctl(['apply', manifest])).code, agent.log()).toBe(0)
  mkdirSync(join(home, 'out/checkpoint-8'), { recursive: true })
  truncateSync(openedFile(join(home, 'out/checkpoint-8/pytorch_model.bin')), 50e9)
  writeFileSync(join(home, 'out/checkpoint-8/trainer_state.json'), '{"global_step": 8}')
  // The agent that is asked may have been started a moment ago.
  await agent.kill('SIGKILL')
  rmSync(join(home, 'run/agent.sock'))
  const next = await startAgent({ home })
  const token = readFileSync(join(home, 'state/local-token'), 'utf8').trim()
  const { status, text } = await rawRequest(join(home, 'run/agent.sock'), '/v1/sync/flush', {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ deadlineSeconds: 5 }),
  })
  expect(status, text).toBe(200)
  expect(FlushRecord.parse(JSON.parse(text))).toMatchObject({
    stored: [],
    left: [{ sync: 's', unit: 'checkpoint-8', isCheckpoint: true, state: 'queued' }],
    secondsNeeded: null,
  })
  await next.kill('SIGKILL')
  await removeHome(home)
})

const openedFile = (path: string): string => {
  writeFileSync(path, '')
  return path
}
