import { VERSION } from '../shared/version.ts'

/**
 * What to tell the user when the agent is of another release: undefined while major and minor agree.
 * Patch releases talk to each other.
 */
export const versionNote = (agentVersion: string): string | undefined => {
  const [agent, client] = [parts(agentVersion), parts(VERSION)]
  if (agent === undefined || client === undefined) return undefined
  const difference = agent[0] - client[0] || agent[1] - client[1]
  if (difference === 0) return undefined
  return difference > 0
    ? `this agentctl ${VERSION} is older than the agent ${agentVersion}: install the newer one here`
    : `this agentctl ${VERSION} is newer than the agent ${agentVersion}: upgrade agentd on the box`
}

const parts = (version: string): [number, number] | undefined => {
  const match = /^(\d+)\.(\d+)\./.exec(version)
  return match ? [Number(match[1]), Number(match[2])] : undefined
}
