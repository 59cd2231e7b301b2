import { AgentError } from '../../shared/contract/errors.ts'
import type { JobSpec } from './job-records.ts'
import type { LogChunk } from './output-log.ts'
import { connectShim } from './shim-connection.ts'
import { logEnd } from './shim/log-files.ts'

/** A process's terminal, for one person: raw bytes both ways. Several may be attached at once and see the same. */
export type Attachment = {
  /** From the replay on; ends when the process ends or the attachment is closed. */
  readonly output: AsyncIterable<LogChunk>
  write(bytes: Uint8Array): void
  resize(columns: number, rows: number): void
  close(): void
  /** `slow`: the reader was let go, because it lagged behind. */
  readonly closed: Promise<'ended' | 'slow'>
}

/** About two screens of text: what is shown before the first new output. */
const REPLAY_BYTES = 16_384
const ANSWER_WITHIN_MS = 5_000
/** A reader that lags this far behind is let go; it comes back with the offset it has. */
const LONGEST_QUEUE_BYTES = 2 ** 20

/**
 * Attaches to the terminal of a running job.
 * @param options.fromOffset where the replay begins; by default shortly before the end
 * @throws AgentError terminal_unavailable when it does not run, does not answer, or has only a log
 */
export const attachToJob = async (
  spec: JobSpec,
  options: {
    readonly folder: string
    readonly fromOffset?: number | undefined
    readonly signal: AbortSignal
  },
): Promise<Attachment> => {
  const { name } = spec.plan
  const queue = createChunkQueue()
  const closed = Promise.withResolvers<'ended' | 'slow'>()
  const result = await connectShim(spec.socket, {
    timeoutMs: ANSWER_WITHIN_MS,
    signal: options.signal,
    onMessage: (message) => {
      if (message.type !== 'output') return
      queue.push({ offset: message.offset, bytes: Buffer.from(message.data, 'base64') })
      if (queue.bytes() <= LONGEST_QUEUE_BYTES) return
      closed.resolve('slow')
      close()
    },
  })
  if (result.kind !== 'connected') throw noTerminal(name, `has no terminal: its shim is ${result.kind}`)
  const { connection } = result
  const close = (): void => {
    options.signal.removeEventListener('abort', close)
    connection.close()
    queue.end()
    closed.resolve('ended')
  }
  if (connection.hello.terminal === 'none') {
    close()
    throw noTerminal(
      name,
      `has no terminal, only a log: ${connection.hello.terminalProblem ?? 'unknown cause'}`,
    )
  }
  options.signal.addEventListener('abort', close, { once: true })
  const fromOffset = Math.max(0, options.fromOffset ?? logEnd(options.folder) - REPLAY_BYTES)
  connection.send({ type: 'attach', fromOffset })
  // The exit comes after the last output; a connection that breaks ends it the same way.
  connection.ended.then(close, close)
  return {
    output: queue.chunks(),
    write: (bytes) => connection.send({ type: 'input', data: Buffer.from(bytes).toString('base64') }),
    resize: (columns, rows) => connection.send({ type: 'resize', columns, rows }),
    close,
    closed: closed.promise,
  }
}

/** Why nobody can be attached to a process, and what can be read instead. */
export const noTerminal = (name: string, why: string): AgentError =>
  new AgentError('terminal_unavailable', `${name} ${why}`, {
    hint: `Read its output instead: agentctl logs ${name}.`,
  })

const createChunkQueue = () => {
  const waiting: LogChunk[] = []
  let bytes = 0
  let ended = false
  let wake = Promise.withResolvers<undefined>()
  const notify = (): void => {
    wake.resolve(undefined)
    wake = Promise.withResolvers()
  }
  return {
    bytes: (): number => bytes,
    push: (chunk: LogChunk): void => {
      waiting.push(chunk)
      bytes += chunk.bytes.byteLength
      notify()
    },
    end: (): void => {
      ended = true
      notify()
    },
    chunks: async function* (): AsyncGenerator<LogChunk> {
      for (;;) {
        const next = wake.promise
        const chunk = waiting.shift()
        if (chunk !== undefined) {
          bytes -= chunk.bytes.byteLength
          yield chunk
        } else if (ended) return
        else await next
      }
    },
  }
}
