import { z } from 'zod'
import { AgentError } from '../../shared/contract/errors.ts'
import { runCommand } from '../platform/commands.ts'
import type { PlannedRemote } from './planned-sync.ts'

/** A rclone with an environment that holds no remote. */
type Called = {
  readonly program: string
  readonly plain: Readonly<Record<string, string>>
  readonly signal: AbortSignal
}

const Providers = z.array(
  z.object({
    Name: z.string(),
    Prefix: z.string(),
    Options: z.array(z.object({ Name: z.string(), IsPassword: z.boolean() })),
  }),
)

/**
 * A remote's options as rclone wants them: rclone itself knows which there are and which of them it wants obscured.
 * Passwords go to it on standard input.
 * @throws AgentError sync_config for a type or an option that it does not know
 */
export const readOptions = async (remote: PlannedRemote, called: Called): Promise<Record<string, string>> => {
  const { program, plain, signal } = called
  const { stdout } = await runCommand([program, 'config', 'providers'], {
    env: plain,
    signal,
    timeoutMs: 20_000,
    maxOutputBytes: 16 * 2 ** 20,
  })
  const providers = parseProviders(stdout, program)
  const provider = providers.find((one) => one.Name === remote.type || one.Prefix === remote.type)
  if (!provider)
    throw new AgentError('sync_config', `remote ${remote.name}: rclone knows no type ${remote.type}`)
  const options: Record<string, string> = {}
  for (const [key, value] of Object.entries(remote.options)) {
    if (key === 'type') continue
    const known = provider.Options.find((option) => option.Name === key)
    if (!known)
      throw new AgentError('sync_config', `remote ${remote.name}: ${remote.type} has no option ${key}`)
    options[key] = known.IsPassword ? await obscure(value, called) : value
  }
  return options
}

const parseProviders = (text: string, program: string): z.infer<typeof Providers> => {
  try {
    return Providers.parse(JSON.parse(text))
  } catch (error) {
    throw new AgentError('sync_config', `${program} does not list the types of remotes it knows`, {
      cause: error,
    })
  }
}

const obscure = async (value: string, { program, plain, signal }: Called): Promise<string> => {
  const result = await runCommand([program, 'obscure', '-'], {
    env: plain,
    signal,
    input: value,
    timeoutMs: 10_000,
  })
  if (result.exitCode !== 0) throw new AgentError('sync_config', 'rclone could not take a password')
  return result.stdout.trim()
}
