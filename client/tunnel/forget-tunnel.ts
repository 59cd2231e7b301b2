import { rm } from 'node:fs/promises'
import type { Environment } from '../command.ts'
import type { SshTarget } from '../context/target.ts'
import { closeMaster } from './dial.ts'
import { makePlaces, tunnelPlaces } from './places.ts'

/** Ends the connection to a box, and forgets its host key unless one of the others is the same host. */
export const forgetTunnel = async (
  { target, others }: { readonly target: SshTarget; readonly others: readonly SshTarget[] },
  { environment, signal }: { environment: Environment; signal: AbortSignal },
): Promise<void> => {
  const places = tunnelPlaces(target, environment)
  await makePlaces(places)
  await closeMaster({ target, places, environment, signal })
  if (others.some((other) => tunnelPlaces(other, environment).knownHosts === places.knownHosts)) return
  await rm(places.knownHosts, { force: true })
}
