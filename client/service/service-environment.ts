import { dirname } from 'node:path'
import type { Environment } from '../command.ts'

/** Nothing of a login shell is there for a service, so what is needed is written down. */
const KEPT: readonly string[] = ['HOME', 'XDG_CONFIG_HOME', 'AGENT_HOME', 'AGENTCTL_HOST', 'AGENTCTL_SSH']

/** The environment of a service that runs agentctl; no secret is in it. */
export const serviceEnvironment = (
  environment: Environment,
  more: readonly string[] = [],
): Record<string, string> => {
  const kept = [...KEPT, ...more].flatMap((name) => {
    const value = environment[name]
    return value === undefined || value === '' ? [] : [[name, value] as const]
  })
  return {
    ...Object.fromEntries(kept),
    PATH: [dirname(process.execPath), '/usr/local/bin', '/usr/bin', '/bin'].join(':'),
  }
}
