import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { openDatabase } from '../../../../agent/platform/database.ts'
import type { Clock } from '../../../../agent/platform/clock.ts'
import { systemClock } from '../../../../agent/platform/clock.ts'
import { createLog } from '../../../../agent/platform/log.ts'
import type { PlannedRemote, PlannedSync } from '../../../../agent/sync/planned-sync.ts'
import type { SyncDeps } from '../../../../agent/sync/sync.ts'
import { createSync } from '../../../../agent/sync/sync.ts'
import type { AgentEvent } from '../../../../shared/contract/events.ts'
import { SyncSpec } from '../../../../shared/manifest/schema.ts'

/** A box with a folder of checkpoints and a folder that plays the remote; close it after the test. */
export const createSyncBox = (options: Partial<SyncDeps> = {}) => {
  const home = mkdtempSync(join(tmpdir(), 'gpu-agent-sync-'))
  const path = join(home, 'checkpoints')
  const remote = join(home, 'remote')
  const temporaryFolder = join(home, 'tmp')
  for (const folder of [path, remote, temporaryFolder]) mkdirSync(folder)
  const events: AgentEvent[] = []
  const logLines: string[] = []
  let opened = openDatabase(home)
  const running: { ended: AbortController; done: Promise<void> }[] = []

  const create = () =>
    createSync({
      db: opened.db,
      clock: systemClock,
      report: (event) => events.push(event),
      log: createLog(
        (line) => logLines.push(line),
        (text) => text,
        () => new Date(),
      ),
      searchPath: process.env['PATH'] ?? '',
      environment: {},
      temporaryFolder,
      ...options,
    })

  const box = {
    home,
    path,
    remote,
    temporaryFolder,
    events,
    logLines,
    sync: create(),
    /** A plan for the box's folder; to the local remote unless another is named. */
    plan: (
      spec: Readonly<Record<string, unknown>> = {},
      to?: { remote: PlannedRemote; to: string },
    ): PlannedSync => ({
      spec: SyncSpec.parse({ name: 'checkpoints', path, to: remote, every: '1h', settle: '50ms', ...spec }),
      remote: to?.remote ?? null,
      to: to?.to ?? remote,
    }),
    write: (name: string, data: string | Uint8Array): string => {
      mkdirSync(dirname(join(path, name)), { recursive: true })
      writeFileSync(join(path, name), data)
      return join(path, name)
    },
    /** Takes the room for the agent's state away, or gives it back: what a full disk does to it. */
    fillState: (isFull: boolean): void => {
      const pages = opened.db.pragma('page_count', { simple: true }) as number
      opened.db.pragma(`max_page_count = ${isFull ? pages : 1_000_000}`)
    },
    /** Text of a file on the local remote. */
    stored: (name: string): string => readFileSync(join(remote, name), 'utf8'),
    /** Names of all files on the local remote but the agent's own. */
    storedNames: (): string[] =>
      readdirSync(remote, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(remote.length + 1))
        .filter((name) => !name.startsWith('.gpu-agent'))
        .sort(),
    runNow: async (name: string | null = null) =>
      (await box.sync.runNow(name, { signal: AbortSignal.timeout(50_000) }))[0]!,
    /** Runs the service until the box closes or the returned function is called. */
    serve: (): (() => Promise<void>) => {
      const ended = new AbortController()
      const done = box.sync.service.run(ended.signal)
      running.push({ ended, done })
      return async () => {
        ended.abort(new Error('the test stops the service'))
        await done
      }
    },
    /** The agent ends and starts again with the same state. */
    restart: (): void => {
      opened.db.close()
      opened = openDatabase(home)
      box.sync = create()
    },
    [Symbol.asyncDispose]: async (): Promise<void> => {
      for (const { ended, done } of running) {
        ended.abort(new Error('the test ended'))
        await done
      }
      opened.db.close()
      rmSync(home, { recursive: true, force: true })
    },
  }
  return box
}
export type SyncBox = ReturnType<typeof createSyncBox>

/** Waits until something holds, however long the machine takes; the test's own timeout is the limit. */
export const until = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await holds())) await systemClock.sleep(20)
}

/** A clock whose monotonic time is ahead by what the test says. */
export const laterClock = (laterMs: () => number): Clock => ({
  ...systemClock,
  monotonicMs: () => systemClock.monotonicMs() + laterMs(),
})

/** Another process that has a file open for writing, and writes nothing. */
export const openForWriting = async (path: string) => {
  const program =
    "require('fs').openSync(process.argv[1], 'r+'); console.log('open'); setInterval(() => {}, 1e6)"
  const child = spawn(process.execPath, ['-e', program, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  await new Promise<void>((resolve) => child.stdout.once('data', () => resolve()))
  return { ended, kill: () => child.kill('SIGKILL') }
}

/** A small whole safetensors file whose data is derived from a seed. */
export const safetensors = (seed: string, dataBytes = 4096): Buffer => {
  const header = Buffer.from(
    JSON.stringify({ w: { dtype: 'U8', shape: [dataBytes], data_offsets: [0, dataBytes] } }),
  )
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  const block = createHash('sha256').update(seed).digest()
  const data = Buffer.alloc(dataBytes, block)
  return Buffer.concat([length, header, data])
}

export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex')
