import { EXIT } from '../shared/contract/errors.ts'
import type { Api } from './api.ts'
import type { Output } from './output/output.ts'

/** A command as data: help, completion and parsing are made from it. Heavy work is imported when it runs. */
export type Command = {
  /** `status`, or `run show` where it belongs to a family. */
  readonly name: string
  readonly group: CommandGroup
  readonly summary: string
  /** A call as somebody would type it. */
  readonly example: string
  readonly arguments?: readonly CommandArgument[]
  readonly options?: readonly CommandOption[]
  /** Exit statuses, where they are not those of every other command: `125` → what it means. */
  readonly exits?: readonly (readonly [status: string, meaning: string])[]
  /** Returns the exit status. @throws AgentError */
  run(call: Call): Promise<number>
}

export const COMMAND_GROUPS = [
  'The box',
  'Manifests and runs',
  'Processes',
  'Packages',
  'Checkpoints',
  'Renting',
  'Access',
  'This machine',
] as const
export type CommandGroup = (typeof COMMAND_GROUPS)[number]

/** What a shell can complete by asking: the contexts of this machine, and what the box has. */
export const NAME_KINDS = [
  'contexts',
  'processes',
  'runs',
  'syncs',
  'checkpoints',
  'secrets',
  'tokens',
] as const
export type NameKind = (typeof NAME_KINDS)[number]

export type CommandArgument = {
  readonly name: string
  readonly summary: string
  readonly optional?: true
  /** The words that it may be, for completion. */
  readonly choices?: readonly string[]
  /** The names that it may be, for completion. */
  readonly names?: NameKind
}

/** `flags` as commander reads them: `-f, --follow`, `--tail <n>`. */
export type CommandOption = { readonly flags: string; readonly summary: string }

/** What commander reads: a text, a flag, or several texts (`<subject...>`). */
export type OptionValue = string | boolean | readonly string[]

export type Environment = Readonly<Record<string, string | undefined>>

/** One call of a command: what the user asked for, and what the command may use. */
export type Call = {
  readonly args: readonly string[]
  readonly options: Readonly<Record<string, OptionValue | undefined>>
  readonly context: string | undefined
  readonly environment: Environment
  /** Every command there is. */
  readonly commands: readonly Command[]
  readonly output: Output
  /** Aborts on Ctrl-C, with an AgentError `interrupted`. */
  readonly signal: AbortSignal
  /** As `signal`, and also when --timeout has passed, where it was given: for what follows, waits or transfers. */
  readonly longSignal: AbortSignal
  readonly timeoutMs: number | undefined
  /** The API of the box that this call is about. @throws AgentError when the box cannot be told */
  api(): Promise<Api>
}

/** An argument that the definition requires; commander has refused the call without it. */
export const argument = (call: Call, index: number): string => call.args[index] ?? ''

export const textOption = (call: Call, name: string): string | undefined => {
  const value = call.options[name]
  return typeof value === 'string' ? value : undefined
}

/** The values of an option that takes several. */
export const listOption = (call: Call, name: string): readonly string[] => {
  const value = call.options[name]
  return Array.isArray(value) ? (value as readonly string[]) : []
}

export const flagOption = (call: Call, name: string): boolean => call.options[name] === true

/** Ctrl-C is how something that follows for ever is meant to end: no error is told, the exit status says it. */
export const followUntilInterrupted = async (call: Call, follow: () => Promise<number>): Promise<number> => {
  try {
    return await follow()
  } catch (error) {
    if (call.signal.aborted) return EXIT.interrupted
    throw error
  }
}
