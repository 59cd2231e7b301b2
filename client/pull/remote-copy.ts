import { execFile, spawn } from 'node:child_process'
import { promisify } from 'node:util'
import type { Chunk } from '../../shared/contract/chunks.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import { errnoOf } from '../exit.ts'
import type { Checkpoint, CheckpointFile } from './checkpoint.ts'

/** The copy of a checkpoint on a remote that this machine's own rclone is configured for. */
export type RemoteCopy = {
  /** The destination, as the box names it: `b2:bucket/run-1`. */
  readonly place: string
  /** The bytes of one chunk, as they come. @throws AgentError unreachable */
  readonly read: (file: CheckpointFile, chunk: Chunk, signal: AbortSignal) => AsyncIterable<Buffer>
}

/**
 * The name of a configured remote, as rclone allows it, and a path. Where a name stands rclone takes backends and their
 * options too (`:sftp,ssh=…:`), and some of those run programs: a box is not to choose what runs here.
 */
const PLACE = /^([\w.+@][\w .+@-]*):[^\0]*$/

/** As the user’s PATH has it. */
const RCLONE = 'rclone'
const ANSWERS_WITHIN_MS = 60_000
const MAX_OUTPUT_BYTES = 2 ** 26

/**
 * Looks for the copy that the box has stored, by the remote of the same name here. It counts where the record that lies
 * beside it has the digest of the checkpoint.
 * @throws AgentError unreachable, with why there is none to be had
 */
export const findRemoteCopy = async (
  checkpoint: Checkpoint,
  { environment, signal }: { readonly environment: Environment; readonly signal: AbortSignal },
): Promise<RemoteCopy> => {
  const { remote: place, name, digest } = checkpoint
  if (place === null) throw noCopy(`${name} was stored on no remote`)
  const remote = PLACE.exec(place)?.[1]
  const run = createRclone(environment)
  if (remote === undefined || !(await run.text(['listremotes'], signal)).split('\n').includes(`${remote}:`))
    throw noCopy(
      `the rclone of this machine knows no remote ${remote ?? place} (rclone config), where ${name} is stored`,
    )
  const at = (path: string): string => (place.endsWith(':') ? `${place}${path}` : `${place}/${path}`)
  const record = await run.text(['cat', at(`.gpu-agent/${name}.json`)], signal)
  if (digestIn(record) !== digest) throw noCopy(`${at(name)} is another version of ${name}`)
  return {
    place,
    read: (file, { start, end }, stop) => {
      const path = checkpoint.kind === 'file' ? name : `${name}/${file.path}`
      return run.bytes(['cat', at(path), '--offset', String(start), '--count', String(end - start + 1)], stop)
    },
  }
}

const digestIn = (record: string): unknown => {
  try {
    return (JSON.parse(record) as { digest?: unknown }).digest
  } catch {
    return undefined
  }
}

/** The user's rclone with the user's configuration, but for what is only between agentctl and the box. */
const createRclone = (environment: Environment) => {
  const env = Object.fromEntries(
    Object.entries(environment).filter(([name]) => !name.startsWith('AGENTCTL_')),
  )
  return {
    text: async (args: readonly string[], signal: AbortSignal): Promise<string> => {
      try {
        const options = { env, signal, timeout: ANSWERS_WITHIN_MS, maxBuffer: MAX_OUTPUT_BYTES }
        return (await promisify(execFile)(RCLONE, args, options)).stdout
      } catch (error) {
        signal.throwIfAborted()
        if (errnoOf(error) === 'ENOENT') throw noCopy('there is no rclone on this machine')
        throw noCopy(lastLine((error as { stderr?: string }).stderr ?? String(error)))
      }
    },
    bytes: async function* (args: readonly string[], signal: AbortSignal): AsyncGenerator<Buffer> {
      const child = spawn(RCLONE, args, { env, signal, stdio: ['ignore', 'pipe', 'pipe'] })
      let said = ''
      child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-4096)))
      const ended = new Promise<number | null>((resolve) => {
        child.once('error', () => resolve(null))
        child.once('close', resolve)
      })
      try {
        for await (const piece of child.stdout) yield piece as Buffer
        if ((await ended) !== 0) throw noCopy(lastLine(said))
      } finally {
        child.kill()
      }
    },
  }
}

const lastLine = (text: string): string => `rclone: ${text.trim().split('\n').at(-1) ?? ''}`

const noCopy = (why: string): AgentError => new AgentError('unreachable', why)
