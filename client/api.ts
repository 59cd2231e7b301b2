import { hc } from 'hono/client'
import type { App } from '../agent/http/app.ts'
import { AgentError } from '../shared/contract/errors.ts'
import type { EventRecord } from '../shared/contract/records.ts'
import type { Scope } from '../shared/contract/states.ts'
import type { Ask, Connection } from './connection.ts'
import type { Reply } from './transport.ts'

export type Api = ReturnType<typeof createApi>

type ApiDeps = {
  readonly connection: Connection
  readonly signal: AbortSignal
  /** Milliseconds for one request where --timeout gives them; otherwise each kind of request has its own. */
  readonly timeoutMs: number | undefined
}

const REQUEST_MS = 30_000
/** A plan asks the hubs about every file. */
const PLAN_MS = 300_000
/** A start, and the end of older one-off processes before it. */
const EXEC_MS = 60_000

/** The agent's API, typed by its own routes (`hc<App>`). Every method throws AgentErrors alone. */
export const createApi = ({ connection, signal, timeoutMs }: ApiDeps) => {
  const within = (withinMs: number | null) =>
    hc<App>('http://agent', { fetch: createFetch(connection, { signal, withinMs: timeoutMs ?? withinMs }) })
      .v1
  const v1 = within(REQUEST_MS)
  const open = (ask: Omit<Ask, 'method' | 'signal' | 'withinMs'>, ended: AbortSignal): Promise<Reply> =>
    connection.open({ ...ask, method: 'GET', signal: ended, withinMs: timeoutMs ?? REQUEST_MS })

  return {
    label: connection.label,
    status: () => unwrap(v1.status.$get()),
    models: () => unwrap(v1.models.$get()),
    budget: () => unwrap(v1.budget.$get()),
    extendBudget: (by: { hours: number } | { usd: number }) => unwrap(v1.budget.extend.$post({ json: by })),
    /** Transfers, or reads everything: no deadline but the user's. */
    pullModel: (pull: { source: string; to: string | null; allow_pickle: boolean }) =>
      unwrap(within(null).models.pull.$post({ json: pull })),
    verifyModels: () => unwrap(within(null).models.verify.$post()),

    plan: (manifest: ManifestText) => unwrap(within(PLAN_MS).plan.$post({ json: manifest })),
    startRun: (manifest: ManifestText & { readonly allowMissing?: readonly string[] }) =>
      unwrap(
        within(PLAN_MS).runs.$post({
          json: { ...manifest, allowMissing: [...(manifest.allowMissing ?? [])] },
        }),
      ),
    runs: () => unwrap(v1.runs.$get()),
    run: (id: string) => unwrap(v1.runs[':id'].$get({ param: { id: encode(id) } })),
    cancelRun: (id: string) => unwrap(v1.runs[':id'].cancel.$post({ param: { id: encode(id) } })),

    processes: () => unwrap(v1.processes.$get()),
    process: (name: string) => unwrap(v1.processes[':name'].$get({ param: { name: encode(name) } })),
    /** Waits for the stop's own grace time, so it has no deadline but the user's. */
    actOn: (name: string, action: 'start' | 'stop' | 'restart') =>
      unwrap(within(null).processes[':name'][':action'].$post({ param: { name: encode(name), action } })),

    /** Reads every shared object and searches files. */
    audit: () => unwrap(within(PLAN_MS).audit.$get()),
    /** Reads every shared object; a cold disk takes its time. */
    pythonCheck: () => unwrap(within(PLAN_MS).python.check.$get()),
    pythonPlan: (specs: readonly string[]) =>
      unwrap(within(PLAN_MS).python.plan.$post({ json: { specs: [...specs] } })),
    /** Downloads, installs and proves: no deadline but the user's. */
    pythonInstall: (specs: readonly string[]) =>
      unwrap(within(null).python.install.$post({ json: { specs: [...specs] } })),
    pythonHistory: () => unwrap(v1.python.history.$get()),
    pythonRollback: (id: string | null) => unwrap(within(PLAN_MS).python.rollback.$post({ json: { id } })),

    sync: () => unwrap(v1.sync.$get()),
    /** Copies until everything is there: no deadline but the user's. */
    syncNow: (name: string | null) => unwrap(within(null).sync.$post({ json: { name } })),
    /** The last copies before the box goes away; the box keeps the deadline. */
    flushSync: (deadlineSeconds: number) =>
      unwrap(within(null).sync.flush.$post({ json: { deadlineSeconds } })),
    checkpoints: (sync: string | undefined) => unwrap(v1.checkpoints.$get({ query: queryOf({ sync }) })),
    /** Hashes files that were not hashed yet, so it may take minutes. */
    checkpointFiles: (name: string, sync: string | undefined) =>
      unwrap(
        within(PLAN_MS).checkpoints[':name'].files.$get({
          param: { name: encode(name) },
          query: queryOf({ sync }),
        }),
      ),

    /** Hashes of the chunks of one file; the box reads the file for it once. */
    checkpointChunks: (file: Pick<CheckpointFileAsk, 'name' | 'sync' | 'digest' | 'path'>) =>
      unwrap(
        within(PLAN_MS).checkpoints[':name'].chunks.$get({
          param: { name: encode(file.name) },
          query: { sync: file.sync, path: file.path, digest: file.digest },
        }),
      ),

    // Its data is any JSON, a type that refers to itself: the compiler cannot walk it as it does the others.
    events: async (page: { after?: number; limit?: number }) => {
      const query = queryOf({ after: text(page.after), limit: text(page.limit) })
      const reply = await v1.events.$get({ query }, { headers: { accept: 'application/json' } })
      return (await reply.json()) as { events: EventRecord[] }
    },

    exec: (command: readonly string[], input: 'terminal' | 'none') =>
      unwrap(within(EXEC_MS).exec.$post({ json: { command: [...command], input } })),
    /** A way to a process beside the API. @throws AgentError also when there is no such process */
    wayTo: (name: string, ended: AbortSignal) =>
      connection.way({
        method: 'GET',
        path: processPath(name),
        signal: ended,
        withinMs: timeoutMs ?? REQUEST_MS,
      }),

    /** ComfyUI lists every node class it has, which takes a busy one a while. */
    checkWorkflow: (ask: { workflow: string; file: string; process: string | null }) =>
      unwrap(within(PLAN_MS).workflows.check.$post({ json: ask })),

    secrets: () => unwrap(v1.secrets.$get()),
    setSecret: (name: string, value: string) =>
      unwrap(v1.secrets[':name'].$put({ param: { name: encode(name) }, json: { value } })),
    removeSecret: (name: string) => unwrap(v1.secrets[':name'].$delete({ param: { name: encode(name) } })),

    tokens: () => unwrap(v1.tokens.$get()),
    createToken: (token: { name: string; scope: Scope; expiresAt: string | null }) =>
      unwrap(v1.tokens.$post({ json: token })),
    revokeToken: (id: string) => unwrap(v1.tokens[':id'].$delete({ param: { id: encode(id) } })),

    /** The output of a process as bytes, with its terminal sequences; `x-log-offset` is its first byte's offset. */
    openLog: (name: string, query: Query, ended: AbortSignal) =>
      open({ path: `/v1/processes/${encode(name)}/logs${search({ ...query, raw: 'true' })}` }, ended),
    openEvents: (lastId: number | undefined, ended: AbortSignal) =>
      open(
        {
          path: '/v1/events',
          headers: {
            accept: 'text/event-stream',
            ...(lastId === undefined ? {} : { 'last-event-id': String(lastId) }),
          },
        },
        ended,
      ),
    openCheckpointFile: (file: CheckpointFileAsk, ended: AbortSignal) =>
      open(
        {
          path: `/v1/checkpoints/${encode(file.name)}/file${search({ sync: file.sync, path: file.path, digest: file.digest })}`,
          headers: {
            accept: 'application/octet-stream',
            'accept-encoding': 'identity',
            range: `bytes=${file.start}-${file.end}`,
            'if-range': file.etag,
          },
        },
        ended,
      ),
  }
}

export type ManifestText = { readonly manifest: string; readonly file: string }

/** One range of one file of a checkpoint; `end` is the last byte's offset. */
export type CheckpointFileAsk = {
  readonly name: string
  readonly sync: string
  readonly digest: string
  readonly path: string
  readonly etag: string
  readonly start: number
  readonly end: number
}

type Query = Readonly<Record<string, string | undefined>>

/** Where a process lies in the API, for what is no single request: `/v1/processes/comfyui`. */
export const processPath = (name: string): string => `/v1/processes/${encode(name)}`

/** hc builds addresses of the parameters as they are, so they are encoded here. */
const encode = encodeURIComponent

const text = (value: number | undefined): string | undefined => value?.toString()

/** The query without what is undefined. */
const queryOf = <K extends string>(
  query: Readonly<Record<K, string | undefined>>,
): Partial<Record<K, string>> =>
  Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined)) as Partial<
    Record<K, string>
  >

const search = (query: Query): string => {
  const given = new URLSearchParams(queryOf(query) as Record<string, string>).toString()
  return given === '' ? '' : `?${given}`
}

/**
 * What hc calls instead of fetch. It returns only the parts of a Response that `unwrap` reads: making a real one
 * loads node's whole fetch, which takes longer than the rest of a command.
 */
const createFetch = (connection: Connection, limits: Pick<Ask, 'signal' | 'withinMs'>): typeof fetch => {
  const fetchParts = async (address: string, init: { method: string; body?: string }) => {
    const { pathname, search: query } = new URL(address)
    const method = init.method as Ask['method']
    const answer = await connection.text({
      method,
      path: `${pathname}${query}`,
      ...(init.body === undefined ? {} : { body: init.body }),
      ...limits,
    })
    return { status: answer.status, json: () => Promise.resolve(parseAnswer(answer.text, connection.label)) }
  }
  return fetchParts as unknown as typeof fetch
}

const parseAnswer = (answer: string, label: string): unknown => {
  try {
    return JSON.parse(answer)
  } catch (error) {
    throw new AgentError('unreachable', `${label} answered something that is not JSON`, {
      cause: error,
      hint: 'Another program may listen there: agentctl doctor.',
    })
  }
}

/** What a route answers, without the error body that its description lists too. */
type Success<R extends { json(): Promise<unknown> }> = Sent<
  Exclude<Awaited<ReturnType<R['json']>>, { error: { code: string } }>
>

/** JSON has no undefined: what may be absent is absent, though hono’s types say “or undefined”. */
type Sent<T> = T extends object ? { [K in keyof T]: Sent<Exclude<T[K], undefined>> } : T

/** The body of a success; failures have been thrown before they get here. */
const unwrap = async <R extends { json(): Promise<unknown> }>(reply: Promise<R>): Promise<Success<R>> =>
  (await (await reply).json()) as Success<R>
