import type { Api } from './api.ts'
import { createApi } from './api.ts'
import type { Environment } from './command.ts'
import { createConnection } from './connection.ts'
import type { Box } from './context/resolve-box.ts'
import type { SshTarget, Target } from './context/target.ts'
import { targetText } from './context/target.ts'
import type { Transport } from './transport.ts'
import { createUnixTransport } from './transport.ts'

type ConnectDeps = {
  readonly environment: Environment
  readonly signal: AbortSignal
  readonly timeoutMs: number | undefined
  readonly onAgentVersion: (version: string) => void
}

/** The API of a box. Nothing is sent yet. */
export const connect = (
  box: Pick<Box, 'target' | 'token'>,
  { environment, signal, timeoutMs, onAgentVersion }: ConnectDeps,
): Api =>
  createApi({
    connection: createConnection({
      label: targetText(box.target),
      transport: transportTo(box.target, environment),
      token: box.token,
      onAgentVersion,
    }),
    signal,
    timeoutMs,
  })

const transportTo = (target: Target, environment: Environment): Transport =>
  target.kind === 'unix' ? createUnixTransport(target.path) : createSshTransport(target, environment)

/** What ssh needs is loaded when a request is sent: most commands are about a box that is connected already. */
const createSshTransport = (target: SshTarget, environment: Environment): Transport => {
  let made: Promise<Transport> | undefined
  const make = async (): Promise<Transport> => {
    const [{ createTunnelTransport }, { tunnelPlaces }] = await Promise.all([
      import('./tunnel/transport.ts'),
      import('./tunnel/places.ts'),
    ])
    return createTunnelTransport({ target, environment, places: tunnelPlaces(target, environment) })
  }
  return async (request) => (await (made ??= make()))(request)
}
