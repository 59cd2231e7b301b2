import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { describe, expect, test } from 'vitest'
import type { SyncRow } from '../../../shared/contract/records.ts'
import { findRclone, serveWebdav } from '../../support/rclone.ts'
import { createSyncBox, safetensors, sha256, until } from './support/sync-box.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined
const real = skipped ? '' : rclone.path
const SECRET = 'kept-secret-value'

/** A box whose rclone is the real one behind a script: `onCopy` is shell for the verbs copy and copyto. */
const createStubbedBox = (onCopy: string, options: { stallMs?: number } = {}) => {
  const bin = mkdtempSync(join(tmpdir(), 'gpu-agent-stub-'))
  const script = `#!/bin/sh
tr '\\0' ' ' </proc/$$/cmdline >>${bin}/cmdlines
env >>${bin}/environments
case "$1" in copy*) ${onCopy};; esac
exec ${real} "$@"
`
  writeFileSync(join(bin, 'rclone'), script, { mode: 0o755 })
  const box = createSyncBox({ searchPath: `${bin}:/usr/bin:/bin`, ...options })
  const remote = { name: 'store', type: 'webdav', options: { url: '', user: 'me', pass: SECRET } }
  return { box, bin, remote }
}

const createServedBox = async (onCopy: string, options: { stallMs?: number } = {}) => {
  const stubbed = createStubbedBox(onCopy, options)
  const server = await serveWebdav(real, { folder: stubbed.box.remote, user: 'me', password: SECRET })
  const remote = { ...stubbed.remote, options: { ...stubbed.remote.options, url: server.url } }
  return {
    ...stubbed,
    plan: stubbed.box.plan({}, { remote, to: 'run' }),
    [Symbol.asyncDispose]: async () => {
      await stubbed.box[Symbol.asyncDispose]()
      await server.close()
      rmSync(stubbed.bin, { recursive: true })
    },
  }
}

describe.skipIf(skipped)(skipped ? `rclone faults (skipped: ${rclone.reason})` : 'rclone faults', () => {
  test('S7: exit 0 with nothing stored is a failure, not a copy', async () => {
    await using served = await createServedBox('exit 0')
    const { box } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    const row = await box.runNow()
    expect(row).toMatchObject({ consecutiveFailures: 1, pendingFiles: 1, problem: { code: 'sync_failed' } })
    expect(row.lastSuccessAt).toBeNull()
    expect(box.storedNames()).toEqual([])
  })

  test.each([
    ['ERROR : x: Failed to copy: insufficient_storage', 7, 'sync_quota', 'failing'],
    ['ERROR : x: failed to authenticate: expired token', 1, 'sync_auth', 'failing'],
    ["CRITICAL: didn't find section in config file", 1, 'sync_config', 'failing'],
    ['ERROR : x: 503 Service Unavailable', 5, 'sync_failed', 'retrying'],
    ['ERROR : S32: RequestTimeTooSkewed: status 403', 1, 'sync_config', 'failing'],
    ['ERROR : dial tcp: lookup nowhere: no such host', 1, 'remote_unreachable', 'retrying'],
  ])('“%s” with exit %i is %s, and the sync is %s', async (line, exit, code, state) => {
    await using served = await createServedBox(`echo "${line}" >&2; exit ${exit}`)
    const { box } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    box.serve()
    await until(() => box.sync.rows()[0]?.problem !== null)
    expect(box.sync.rows()[0]).toMatchObject({ state, problem: { code } })
  })

  test('S38: it recovers by itself when the remote does', async () => {
    await using served = await createServedBox(
      '[ -e "$0.failed" ] || { touch "$0.failed"; echo "503 try later" >&2; exit 5; }',
    )
    const { box } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    box.serve()
    await until(() => box.logLines.some((line) => line.includes('sync failed')))
    await until(() => box.sync.rows()[0]?.pendingFiles === 0 && box.sync.rows()[0]?.state === 'idle')
    expect(box.sync.rows()[0]).toMatchObject({ problem: null, consecutiveFailures: 0 })
    // One failure in a row is weather.
    expect(box.events.filter(({ type }) => /failed|recovered/.test(type))).toEqual([])
  })

  test('incident B9: that it fails is told once when it is more than weather, and once that it works again', async () => {
    await using served = await createServedBox('[ -e "$0.well" ] || { echo "503 try later" >&2; exit 5; }')
    const { box, bin } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    for (let pass = 0; pass < 5; pass += 1) await box.runNow()
    writeFileSync(join(bin, 'rclone.well'), '')
    for (let pass = 0; pass < 2; pass += 1) await box.runNow()
    const problem = { code: 'sync_failed', message: expect.stringContaining('503') as string }
    expect(box.events.filter(({ type }) => /failed|recovered/.test(type))).toMatchObject([
      { type: 'sync.failed', subject: 'checkpoints', data: { problem, failures: 3, lastSuccessAt: null } },
      { type: 'sync.recovered', subject: 'checkpoints', data: { problem, failures: 5 } },
    ])
  })

  test('S23: no secret in arguments, log, events or what is left on the disk', async () => {
    await using served = await createServedBox(':')
    const { box, bin } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    expect((await box.runNow()).problem).toBeNull()
    const commands = readFileSync(join(bin, 'cmdlines'), 'utf8')
    expect(commands).toContain('copy')
    expect(commands).not.toContain(SECRET)
    expect(JSON.stringify([box.logLines, box.events])).not.toContain(SECRET)
    expect(readdirSync(box.temporaryFolder)).toEqual([])
    expect(readFileSync(join(bin, 'environments'), 'utf8')).not.toContain(SECRET)
  })

  test('every call has the decided arguments, and no verb deletes or moves', async () => {
    await using served = await createServedBox(':')
    const { box, bin } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    await box.runNow()
    box.write('model.safetensors', safetensors('b'))
    expect((await box.runNow()).problem).toBeNull()
    const calls = readFileSync(join(bin, 'cmdlines'), 'utf8')
      .split('/bin/sh ')
      .filter(Boolean)
      .map((line) => line.trim().split(' ').slice(1))
    expect([...new Set(calls.map(([verb]) => verb))].sort()).toEqual([
      'config',
      'copy',
      'copyto',
      'lsjson',
      'obscure',
      'version',
    ])
    for (const call of calls.filter(([verb]) => verb?.startsWith('copy')))
      expect(call).toEqual(
        expect.arrayContaining([
          '--multi-thread-streams=0',
          '--ignore-times',
          '--retries=1',
          '--low-level-retries=3',
        ]),
      )
    expect(calls.flat().filter((word) => /^--?(vv|dump|delete|max-delete)/.test(word))).toEqual([])
  })

  test('S24: what the agent’s own environment holds does not reach rclone', async () => {
    process.env['RCLONE_DRY_RUN'] = 'true'
    process.env['AWS_CA_BUNDLE'] = '/nonexistent'
    try {
      await using served = await createServedBox(':')
      const { box, bin } = served
      box.write('model.safetensors', safetensors('a'))
      box.sync.configure([served.plan])
      expect((await box.runNow()).problem).toBeNull()
      expect(box.storedNames()).toContain('run/model.safetensors')
      const environments = readFileSync(join(bin, 'environments'), 'utf8')
      expect(environments).not.toMatch(/RCLONE_DRY_RUN|AWS_CA_BUNDLE/)
      expect(environments).toMatch(/^RCLONE_CONFIG=$/m)
    } finally {
      delete process.env['RCLONE_DRY_RUN']
      delete process.env['AWS_CA_BUNDLE']
    }
  })

  test('S39: a rclone that stands still is ended, and the copy counts as failed', async () => {
    await using served = await createServedBox('exec sleep 1000', { stallMs: 1_500 })
    const { box } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    const row = await box.runNow()
    expect(row.problem).toMatchObject({ code: 'sync_failed' })
    expect(row.problem?.message).toContain('no progress')
  })

  test('S26: an abort in the middle of a copy ends rclone and leaves nothing behind', async () => {
    await using served = await createServedBox('exec sleep 1000')
    const { box } = served
    box.write('model.safetensors', safetensors('a'))
    box.sync.configure([served.plan])
    const stop = box.serve()
    await until(() => box.sync.rows()[0]?.state === 'copying')
    await until(() => readdirSync(box.temporaryFolder).some((name) => name.startsWith('rclone-')))
    await stop()
    expect(readdirSync(box.temporaryFolder)).toEqual([])
    expect(box.sync.rows()[0]?.state).toBe('stopped')
  })

  test('S25: rclones that a killed agent left are ended at the next start, others are not', async () => {
    await using box = createSyncBox()
    const asOurs = spawnSleeper({ HOME: join(box.temporaryFolder, 'rclone-0123456789ab') })
    const other = spawnSleeper({ HOME: box.home })
    await until(() => asOurs.environment().includes('HOME=') && other.environment().includes('HOME='))
    box.serve()
    await asOurs.ended
    expect(other.child.exitCode).toBeNull()
    other.child.kill('SIGKILL')
    await other.ended
  })

  test('S25: after a kill in the middle of a copy there is no record, and the unit is copied once more', async () => {
    await using box = createSyncBox({ searchPath: `${skipped ? '' : rclone.folder}:/usr/bin:/bin` })
    const server = await serveWebdav(real, {
      folder: box.remote,
      user: 'me',
      password: SECRET,
      bytesPerSecond: '4M',
    })
    try {
      const path = box.write('checkpoint-1/model.safetensors', safetensors('a', 16_000_000))
      const options = { url: server.url, user: 'me', pass: SECRET }
      const plan = box.plan({}, { remote: { name: 'dav', type: 'webdav', options }, to: 'run' })
      const home = join(box.home, 'agent')
      mkdirSync(home)
      const model = join(box.remote, 'run/checkpoint-1/model.safetensors')
      const record = join(box.remote, 'run/.gpu-agent/checkpoint-1.json')
      const first = startAgent(home, box.temporaryFolder, JSON.stringify(plan))
      await until(() => existsSync(model))
      await first.kill()
      expect(existsSync(record)).toBe(false)
      const second = startAgent(home, box.temporaryFolder, JSON.stringify(plan))
      await until(() => existsSync(record))
      await until(() => second.row()?.pendingFiles === 0)
      await second.kill()
      expect(sha256(readFileSync(model))).toBe(sha256(readFileSync(path)))
    } finally {
      await server.close()
    }
  })
})

const spawnSleeper = (env: Readonly<Record<string, string>>) => {
  const child = spawn('/bin/sleep', ['1000'], { env, stdio: 'ignore' })
  return {
    child,
    ended: new Promise<void>((resolve) => child.once('exit', () => resolve())),
    environment: () => readFileSync(`/proc/${child.pid}/environ`, 'utf8'),
  }
}

const startAgent = (home: string, temporaryFolder: string, plan: string) => {
  const program = join(import.meta.dirname, 'support/sync-agent.ts')
  const child = spawn(process.execPath, [program, home, temporaryFolder, plan], {
    env: { ...process.env, PATH: `${join(real, '..')}:/usr/bin:/bin` },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  let row: SyncRow | undefined
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  createInterface({ input: child.stdout }).on('line', (line) => (row = JSON.parse(line) as SyncRow))
  return {
    row: () => row,
    kill: async () => {
      child.kill('SIGKILL')
      await ended
    },
  }
}
