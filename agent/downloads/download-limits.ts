import { AgentError } from '../../shared/contract/errors.ts'
import { parseSize } from '../../shared/contract/units.ts'
import { SLOW_RULES, type SlowRules } from './slow-rules.ts'

export type DownloadLimits = {
  /** Files at once. */
  readonly files: number
  /** Most connections for one file; how many there are is found out while it comes. */
  readonly connectionsPerFile: number
  /** Most connections in all, beside the first of each file; each holds two buffers. */
  readonly connections: number
  /** Of all downloads together; null without a limit. */
  readonly bytesPerSecond: number | null
  /** Most bytes that one request asks for. */
  readonly segmentBytes: number
  /** Bytes of this long are what a kill may cost, or 32 MiB. Shorter only in tests. */
  readonly recordEveryMs: number
  readonly slow: SlowRules
}

export const DEFAULT_LIMITS: DownloadLimits = {
  files: 8,
  connectionsPerFile: 16,
  connections: 32,
  bytesPerSecond: null,
  segmentBytes: 64 * 2 ** 20,
  recordEveryMs: 1_000,
  slow: SLOW_RULES,
}

/** What the user may limit: `200MB/s`, and connections in all. Undefined and "" are no limit. */
type Asked = { readonly speed: string | undefined; readonly connections: string | undefined }

/** Below this a piece of a busy connection waits for so long that the server gives the connection up. */
const LEAST_BYTES_PER_SECOND = 100_000

/** @throws AgentError usage */
export const readDownloadLimits = ({ speed, connections }: Asked): Partial<DownloadLimits> => ({
  ...(speed ? { bytesPerSecond: readSpeed(speed) } : {}),
  ...(connections ? readConnections(connections) : {}),
})

const readSpeed = (text: string): number => {
  const bytes = parseSize(text.replace(/\/s$/, ''))
  if (bytes === undefined || bytes < LEAST_BYTES_PER_SECOND)
    throw new AgentError('usage', `--download-limit ${text} is not a speed of 100KB/s or more`, {
      hint: 'Write 200MB/s, for example.',
    })
  return bytes
}

const readConnections = (text: string): Pick<DownloadLimits, 'connections' | 'files'> => {
  const connections = /^\d{1,3}$/.test(text) ? Number(text) : 0
  if (connections < 1 || connections > DEFAULT_LIMITS.connections)
    throw new AgentError(
      'usage',
      `--download-connections ${text} is not a number from 1 to ${DEFAULT_LIMITS.connections}`,
    )
  // Every file under way has one connection at least.
  return { connections, files: Math.min(DEFAULT_LIMITS.files, connections) }
}
