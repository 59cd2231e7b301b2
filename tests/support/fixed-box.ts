import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getRequestListener } from '@hono/node-server'
import { createApp } from '../../agent/http/app.ts'
import type { Box } from '../../agent/http/box.ts'
import { systemClock } from '../../agent/platform/clock.ts'
import { createHashChunks } from '../../agent/sync/chunk-hashes.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { PythonCheck, PythonInstallRow, PythonPlanRecord } from '../../shared/contract/python-records.ts'
import type {
  CheckpointFiles,
  EventRecord,
  ModelRow,
  PlanRecord,
  ProcessRow,
  RunRecord,
  StatusRecord,
  TokenRow,
} from '../../shared/contract/records.ts'
import { aPlan, aPython, aStatus } from './fixed-records.ts'

/** What the box says; a test changes it while the server runs. */
export type FixedRecords = {
  status: StatusRecord
  plan: PlanRecord
  /** What a run's answer carries; null as for a run that was under way. */
  appliedPlan: PlanRecord | null
  run: RunRecord | undefined
  processes: ProcessRow[]
  python: { check: PythonCheck; plan: PythonPlanRecord; installs: PythonInstallRow[] }
  events: EventRecord[]
  tokens: TokenRow[]
  logs: string
  /** The checkpoint, and the folder on this machine whose files are its bytes. */
  checkpoint: { files: CheckpointFiles; folder: string } | undefined
  /** Thrown by every call that changes something, when set. */
  refusal: AgentError | undefined
}

export type FixedBox = {
  readonly home: string
  readonly socket: string
  readonly records: FixedRecords
  /** Environment that leads agentctl here, with a config folder of its own. */
  readonly env: Readonly<Record<string, string>>
  /** Every request so far. */
  readonly requests: {
    readonly method: string
    readonly url: string
    readonly headers: IncomingMessage['headers']
  }[]
  /** Takes a request before the API does when it returns true: the place for faults. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean
  addEvent(event: Omit<EventRecord, 'id'>): void
  /** The server goes away, with every connection cut. */
  stop(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

export const LOCAL_TOKEN = 'fixed.local-token'

/** The real HTTP API over a real unix socket, with a box behind it that says what the test wants. */
export const startFixedBox = async (options: { readonly version?: string } = {}): Promise<FixedBox> => {
  const home = mkdtempSync(join(tmpdir(), 'ga-fixed-'))
  const socket = join(home, 'run', 'agent.sock')
  for (const folder of ['run', 'state', 'config']) mkdirSync(join(home, folder))
  writeFileSync(join(home, 'state', 'local-token'), `${LOCAL_TOKEN}\n`, { mode: 0o600 })
  const records: FixedRecords = {
    status: aStatus(),
    plan: aPlan(),
    appliedPlan: null,
    run: undefined,
    processes: aStatus().processes,
    python: aPython(),
    events: [],
    tokens: [],
    logs: '',
    checkpoint: undefined,
    refusal: undefined,
  }
  const wakes = new Set<() => void>()
  const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }
  const app = createApp(fixedBox(records, { version: options.version ?? '0.1.0', wakes }), {
    log: quiet,
    clock: systemClock,
    stateFolder: home,
  })
  const listener = getRequestListener(app.fetch)
  let server: Server | undefined
  const stop = async (): Promise<void> => {
    const running = server
    server = undefined
    if (running === undefined) return
    const closed = new Promise((resolve) => running.close(resolve))
    running.closeAllConnections()
    await closed
  }
  const box: FixedBox = {
    home,
    socket,
    records,
    env: { AGENT_HOME: home, XDG_CONFIG_HOME: join(home, 'config'), HOME: home },
    requests: [],
    intercept: () => false,
    addEvent: (event) => {
      records.events.push({ id: records.events.length + 1, ...event })
      for (const wake of wakes) wake()
    },
    stop,
    start: async () => {
      const made = createServer((request, response) => {
        box.requests.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers })
        if (!box.intercept(request, response)) void listener(request, response)
      })
      server = made
      await new Promise<void>((resolve) => made.listen(socket, resolve))
    },
    close: async () => {
      await stop()
      rmSync(home, { recursive: true, force: true })
    },
  }
  await box.start()
  return box
}

const fixedBox = (records: FixedRecords, deps: { version: string; wakes: Set<() => void> }): Box => {
  const refuse = (): void => {
    if (records.refusal) throw records.refusal
  }
  const found = <T>(value: T | undefined, what: string): T => {
    if (value === undefined) throw new AgentError('not_found', `there is no ${what}`)
    return value
  }
  const process = (name: string) =>
    found(
      records.processes.find((row) => row.name === name),
      `process ${name}`,
    )
  const act = (result: string) => (name: string) => {
    refuse()
    process(name)
    return Promise.resolve(result)
  }
  const current = () => found(records.run, 'run')
  const checkpoint = (name: string) => {
    const { checkpoint: one } = records
    if (one !== undefined && (name === 'latest' || name === one.files.name)) return one
    throw new AgentError('not_found', `there is no checkpoint ${name}`)
  }
  const secrets = new Map<string, string>()
  const unused = () => {
    throw new Error('the API does not call this')
  }
  return {
    version: deps.version,
    status: () => {
      refuse()
      return Promise.resolve(records.status)
    },
    plan: () => {
      refuse()
      return Promise.resolve(records.plan)
    },
    apply: () => {
      refuse()
      return Promise.resolve({ run: current(), joined: false, plan: records.appliedPlan })
    },
    cancel: () => Promise.resolve(current()),
    currentRun: () => records.run,
    runs: {
      get: (id) => (records.run?.id === id ? records.run : undefined),
      list: () => (records.run ? [records.run] : []),
      current: () => records.run,
      create: unused,
      manifest: unused,
      knows: unused,
      move: unused,
      setProgress: unused,
    },
    journal: {
      append: () => undefined,
      read: (after, limit) => records.events.filter((event) => event.id > after).slice(0, limit),
      lastId: () => records.events.at(-1)?.id ?? 0,
      subscribe: (wake) => {
        deps.wakes.add(wake)
        return () => deps.wakes.delete(wake)
      },
    },
    tls: null,
    tokens: {
      verify: (token) =>
        token === LOCAL_TOKEN
          ? {
              id: 'local',
              name: 'local',
              scope: 'admin',
              createdAt: aStatus().agent.startedAt,
              lastUsedAt: null,
              expiresAt: null,
            }
          : undefined,
      list: () => records.tokens,
      create: ({ name, scope, expiresAt = null }) => {
        const createdAt = aStatus().agent.startedAt
        const row = { id: 't1', name, scope, createdAt, lastUsedAt: null, expiresAt }
        records.tokens.push(row)
        return { token: 't1.secret', row }
      },
      admit: () => {
        throw new AgentError('internal', 'the fixed box admits no token')
      },
      revoke: (id) => {
        records.tokens = records.tokens.filter((row) => row.id !== id)
      },
    },
    secrets: {
      names: () => [...secrets.keys()],
      set: (name, value) => void secrets.set(name, value),
      remove: (name) => void secrets.delete(name),
    },
    downloads: { rows: () => records.status.downloads },
    budget: {
      row: () => records.status.budget ?? unused(),
      extend: refuse,
    },
    openWork: { enter: () => () => undefined },
    models: {
      list: () => Promise.resolve(modelsOf(records.status)),
      pull: ({ source }) => {
        refuse()
        const [model] = modelsOf(records.status)
        if (model === undefined) throw new AgentError('internal', 'the fixed box has no model')
        return Promise.resolve({ model: { ...model, source }, problems: [] })
      },
      verify: () => {
        refuse()
        return Promise.resolve(records.status.problems)
      },
    },
    processes: {
      rows: () => records.processes,
      row: process,
      start: act('started'),
      stop: act('already_stopped'),
      restart: act('restarted'),
      logs: async function* (name, { fromOffset = 0, tailLines, follow, signal }) {
        process(name)
        const whole = Buffer.from(records.logs)
        const tail =
          tailLines === undefined
            ? undefined
            : records.logs
                .split('\n')
                .slice(-tailLines - 1)
                .join('\n')
        const offset = tail === undefined ? fromOffset : whole.byteLength - Buffer.byteLength(tail)
        yield { offset, bytes: whole.subarray(offset) }
        if (follow === true)
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
      },
      noteWebUse: () => undefined,
      terminal: (name) =>
        Promise.reject(new AgentError('terminal_unavailable', `${name} has no terminal in this box`)),
      runOnce: () => Promise.reject(new AgentError('program_missing', 'this box has no programs')),
      checkWorkflow: () => Promise.reject(new AgentError('process_not_ready', 'no ComfyUI runs on this box')),
      createStripper: () => ({ push: (bytes) => Buffer.from(bytes).toString(), end: () => '' }),
    },
    python: {
      check: () => Promise.resolve(records.python.check),
      plan: () => Promise.resolve(records.python.plan),
      install: () => {
        refuse()
        return Promise.resolve(records.python.installs[0] ?? null)
      },
      history: () => Promise.resolve(records.python.installs),
      rollBack: (id) => {
        refuse()
        const install = records.python.installs.find((one) => id === null || one.id === id)
        if (install === undefined) throw new AgentError('not_found', `no install ${id}`)
        return Promise.resolve(install)
      },
    },
    audit: () => Promise.reject(new AgentError('internal', 'this box is not audited')),
    sync: {
      rows: () => records.status.sync,
      runNow: () => Promise.resolve(records.status.sync),
      flush: () => Promise.resolve({ stored: [], left: [], leftBytes: 0, secondsNeeded: 0, problems: [] }),
      checkpoints: () =>
        Promise.resolve(
          records.checkpoint === undefined
            ? []
            : [
                {
                  name: records.checkpoint.files.name,
                  sync: records.checkpoint.files.sync,
                  files: records.checkpoint.files.files.length,
                  sizeBytes: records.checkpoint.files.files.reduce((sum, file) => sum + file.sizeBytes, 0),
                  completeAt: records.checkpoint.files.completeAt,
                  digest: records.checkpoint.files.digest,
                  remoteState: 'stored' as const,
                },
              ],
        ),
      checkpointFiles: ({ name }) => Promise.resolve().then(() => checkpoint(name).files),
      openCheckpointFile: async ({ name, path, digest }) => {
        const { files, folder } = checkpoint(name)
        if (files.digest !== digest)
          throw new AgentError('checkpoint_changed', `${name} is another checkpoint now`)
        const file = found(
          files.files.find((one) => one.path === path),
          `file ${path}`,
        )
        const handle = await open(join(folder, path))
        return { handle, sizeBytes: file.sizeBytes, etag: `"sha256-${file.sha256}"` }
      },
      checkpointChunks: async ({ name, path }, { signal }) => {
        const handle = await open(join(checkpoint(name).folder, path))
        try {
          const nothingKnown = { hash: () => undefined, saveHash: () => undefined }
          return await createHashChunks(nothingKnown)({ handle, path }, { signal })
        } finally {
          await handle.close()
        }
      },
    },
  }
}

const modelsOf = (status: StatusRecord): ModelRow[] =>
  status.downloads.map((row) => ({
    path: `/workspace/models/${row.to}`,
    source: row.source,
    sizeBytes: row.bytesTotal,
    sha256: row.sha256,
    verifiedAt: row.verifiedAt,
    state: row.state,
  }))
