import type { Agent } from 'node:http'
import type { Readable } from 'node:stream'
import type { ErrorCode, Problem } from '../shared/contract/errors.ts'
import { AgentError, isErrorCode } from '../shared/contract/errors.ts'
import { errnoOf } from './exit.ts'
import type { Connect, Reply, Transport } from './transport.ts'

/** One call of the API, before the token and the deadline are added. */
export type Ask = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly signal: AbortSignal
  /** Milliseconds until the whole answer (`text`) or its head (`open`) must be there; null waits for ever. */
  readonly withinMs: number | null
}

/** An authenticated way to one agent, with the client's one translation of failures into AgentErrors. */
export type Connection = {
  /** How errors call the box: `unix:/run/gpu-agent/agent.sock`. */
  readonly label: string
  /** The whole answer of a call that succeeded. @throws AgentError */
  text(ask: Ask): Promise<{ readonly status: number; readonly text: string }>
  /** The head of an answer that may be long; also of one that says 200 or 206 as it likes. @throws AgentError */
  open(ask: Ask): Promise<Reply>
  /** A way for what is no single request: asks once, which opens the way and shows that the token counts. */
  way(ask: Ask): Promise<Way>
}

/** Connections to the agent beside the API's own requests: WebSockets, and pages that are passed through. */
export type Way = {
  readonly label: string
  /** A fresh connection to the agent. */
  readonly connect: Connect
  /** For plain requests, where each connection is dear; without it they take a fresh one each. */
  readonly agent?: Agent
  readonly authorization: Readonly<Record<string, string>>
  /** What an answer that is none of success says. */
  failure(status: number, text: string): AgentError
}

type ConnectionDeps = {
  readonly label: string
  readonly transport: Transport
  readonly token: string | undefined
  /** Told once for each answer that names the agent's version. */
  readonly onAgentVersion: (version: string) => void
}

/** A larger answer than any list of the API; a hostile box must not fill the laptop's memory. */
const MAX_TEXT_BYTES = 64 * 2 ** 20

export const createConnection = (deps: ConnectionDeps): Connection => {
  const authorization: Readonly<Record<string, string>> =
    deps.token === undefined ? {} : { authorization: `Bearer ${deps.token}` }
  const send = async (ask: Ask, signal: AbortSignal): Promise<Reply> => {
    const reply = await deps.transport({
      method: ask.method,
      path: ask.path,
      headers: {
        accept: 'application/json',
        ...(ask.body === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(ask.body)) }),
        ...ask.headers,
        ...authorization,
      },
      ...(ask.body === undefined ? {} : { body: ask.body }),
      signal,
    })
    const version = reply.headers['x-agent-version']
    if (typeof version === 'string') deps.onAgentVersion(version)
    if (reply.status >= 400) throw answeredError(reply.status, await readText(reply.body), deps)
    return reply
  }

  const withDeadline = async <T>(ask: Ask, work: (reply: Reply) => T | Promise<T>): Promise<T> => {
    const deadline = createDeadline(ask, deps.label)
    try {
      return await work(await send(ask, deadline.signal))
    } catch (error) {
      throw connectionError(error, deadline.signal, deps.label)
    } finally {
      // What flows on afterwards does so for as long as it likes; the caller's own signal still ends it.
      deadline.clear()
    }
  }

  return {
    label: deps.label,
    text: (ask) =>
      withDeadline(ask, async (reply) => ({ status: reply.status, text: await readText(reply.body) })),
    open: (ask) => withDeadline(ask, (reply) => reply),
    way: (ask) =>
      withDeadline(ask, async ({ body, connect, agent }) => {
        await readText(body)
        return {
          label: deps.label,
          connect,
          ...(agent === undefined ? {} : { agent }),
          authorization,
          failure: (status, text) => answeredError(status, text, deps),
        }
      }),
  }
}

/** What went wrong on the way, as an AgentError: the abort's own reason, or that the box cannot be reached. */
export const connectionError = (error: unknown, signal: AbortSignal, label: string): AgentError => {
  if (signal.aborted && signal.reason instanceof AgentError) return signal.reason
  if (error instanceof AgentError) return error
  const errno = errnoOf(error)
  const why = error instanceof Error ? error.message : String(error)
  return new AgentError('unreachable', `cannot reach the agent at ${label}: ${why}`, {
    cause: error,
    ...(errno !== undefined && errno in CONNECT_HINTS ? { hint: CONNECT_HINTS[errno] ?? '' } : {}),
  })
}

const CONNECT_HINTS: Readonly<Record<string, string>> = {
  ENOENT: 'Start agentd, or name the box with --context or AGENTCTL_HOST: agentctl doctor.',
  ECONNREFUSED: 'Nothing listens there any more; start agentd on the box: agentctl doctor.',
  EACCES: 'Run agentctl as the user of the agent, or pair with a token: agentctl pair TARGET.',
}

const createDeadline = (ask: Ask, label: string): { signal: AbortSignal; clear: () => void } => {
  const { withinMs } = ask
  if (withinMs === null) return { signal: ask.signal, clear: () => undefined }
  const late = new AbortController()
  const timer = setTimeout(() => {
    late.abort(new AgentError('deadline', `${label} did not answer within ${withinMs / 1000} s`))
  }, withinMs)
  return {
    signal: AbortSignal.any([ask.signal, late.signal]),
    clear: () => {
      clearTimeout(timer)
    },
  }
}

const readText = async (body: Readable): Promise<string> => {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    const bytes = chunk as Buffer
    length += bytes.byteLength
    if (length > MAX_TEXT_BYTES)
      throw new AgentError('internal', `an answer is larger than ${MAX_TEXT_BYTES} bytes`)
    chunks.push(bytes)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const CODES_BY_STATUS: Readonly<Partial<Record<number, ErrorCode>>> = {
  400: 'bad_request',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  409: 'busy',
  426: 'version_mismatch',
  502: 'unreachable',
  504: 'deadline',
}

/** The agent's own error body; an unknown code (a newer agent) keeps its words and takes the status's code. */
const answeredError = (status: number, text: string, deps: ConnectionDeps): AgentError => {
  const body = parseErrorBody(text)
  const byStatus = CODES_BY_STATUS[status] ?? 'internal'
  if (body === undefined)
    return new AgentError(byStatus, `${deps.label} answered HTTP ${status} without saying why`)
  const code = body.code !== undefined && isErrorCode(body.code) ? body.code : byStatus
  return new AgentError(code, body.message, {
    ...(body.hint === undefined ? {} : { hint: body.hint }),
    ...(code === 'unauthorized' && deps.token === undefined
      ? {
          hint: 'Run agentctl as the user of the agent, or give a token: agentctl pair TARGET or AGENTCTL_TOKEN.',
        }
      : {}),
    ...(body.problems === undefined ? {} : { problems: body.problems }),
  })
}

type AnsweredError = { code?: string; message: string; hint?: string; problems?: Problem[] }

const parseErrorBody = (text: string): AnsweredError | undefined => {
  try {
    const { error } = JSON.parse(text) as { error?: Partial<AnsweredError> }
    return typeof error?.message === 'string' ? { ...error, message: error.message } : undefined
  } catch {
    // A proxy's page, or nothing: the status is all there is.
    return undefined
  }
}
