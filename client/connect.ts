import type { Api } from './api.ts'
import { createApi } from './api.ts'
import { createConnection } from './connection.ts'
import type { Box } from './context/resolve-box.ts'
import { targetText } from './context/target.ts'
import { createUnixTransport } from './transport.ts'

type ConnectDeps = {
  readonly signal: AbortSignal
  readonly timeoutMs: number | undefined
  readonly onAgentVersion: (version: string) => void
}

/** The API of a box. Nothing is sent yet. */
export const connect = (
  box: Pick<Box, 'target' | 'token'>,
  { signal, timeoutMs, onAgentVersion }: ConnectDeps,
): Api =>
  createApi({
    connection: createConnection({
      label: targetText(box.target),
      transport: createUnixTransport(box.target.path),
      token: box.token,
      onAgentVersion,
    }),
    signal,
    timeoutMs,
  })
