import { AgentError } from '../shared/contract/errors.ts'
import type { Api } from './api.ts'
import { createApi } from './api.ts'
import type { Environment } from './command.ts'
import { createConnection } from './connection.ts'
import type { Box } from './context/resolve-box.ts'
import type { HttpsTarget, SshTarget } from './context/target.ts'
import { targetText } from './context/target.ts'
import { followMovedBox } from './rent/find-moved.ts'
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
  box: Pick<Box, 'target' | 'token'> & Partial<Pick<Box, 'context' | 'rental'>>,
  { environment, signal, timeoutMs, onAgentVersion }: ConnectDeps,
): Api =>
  createApi({
    connection: createConnection({
      label: targetText(box.target),
      transport: transportTo(box, environment),
      token: box.token,
      onAgentVersion,
    }),
    signal,
    timeoutMs,
  })

const transportTo = (
  { target, context, rental }: Parameters<typeof connect>[0],
  environment: Environment,
): Transport => {
  const openSsh = (ssh: SshTarget): Transport => whenUsed(() => sshTransport(ssh, environment))
  switch (target.kind) {
    case 'unix':
      return createUnixTransport(target.path)
    case 'https':
      return whenUsed(() => tlsTransport(target))
    case 'ssh':
      return rental === undefined || context === undefined
        ? openSsh(target)
        : followMovedBox({ context, rental, target }, { environment, open: openSsh })
  }
}

/** What a way needs is loaded when a request is sent, so that a command about a box of this machine starts fast. */
const whenUsed = (make: () => Promise<Transport>): Transport => {
  let made: Promise<Transport> | undefined
  return async (request) => (await (made ??= make()))(request)
}

const sshTransport = async (target: SshTarget, environment: Environment): Promise<Transport> => {
  const [{ isBridged }, { tunnelPlaces }] = await Promise.all([
    import('./tunnel/is-bridged.ts'),
    import('./tunnel/places.ts'),
  ])
  const context = { target, environment, places: tunnelPlaces(target, environment) }
  if (isBridged(target, environment)) {
    const { createBridgeTransport } = await import('./tunnel/bridge-transport.ts')
    return createBridgeTransport(context)
  }
  const { createTunnelTransport } = await import('./tunnel/transport.ts')
  return createTunnelTransport(context)
}

const tlsTransport = async (target: HttpsTarget): Promise<Transport> => {
  const { host, port, pin } = target
  const label = targetText(target)
  if (pin === undefined)
    throw new AgentError('usage', `${label}: the pin of its certificate is not known here`, {
      hint: `Pair with it: agentctl pair ${label} --pin PIN; or set AGENTCTL_PIN.`,
    })
  const { createTlsTransport } = await import('./tls/transport.ts')
  return createTlsTransport({ at: { host, port }, pin, label })
}
