import { z } from 'zod'
import { AgentError } from '../../../shared/contract/errors.ts'
import { runCommand } from '../../platform/commands.ts'

/**
 * Flags that differ between versions of a program: its own --help is asked once before a start, and of each choice the
 * first flag that it knows is added. A flag that decides about more than comfort is required.
 */
export const FlagQuestion = z.object({
  help: z.array(z.string()).min(1).readonly(),
  choices: z
    .array(
      z.object({
        oneOf: z.array(z.string()).min(1).readonly(),
        purpose: z.string(),
        required: z.boolean(),
      }),
    )
    .readonly(),
})
export type FlagQuestion = Readonly<z.infer<typeof FlagQuestion>>

type AskContext = {
  readonly name: string
  readonly cwd: string
  readonly environment: Readonly<Record<string, string>>
  readonly user: { readonly uid: number; readonly gid: number } | null
  readonly signal: AbortSignal
}

/** A script that imports PyTorch before it reads its arguments takes minutes on a cold disk. */
const HELP_WITHIN_MS = 300_000

/**
 * The flags to add.
 * @throws AgentError process_failed when a required one is not known to this version; the signal's reason
 */
export const chooseFlags = async (
  question: FlagQuestion,
  context: AskContext,
): Promise<readonly string[]> => {
  const asked = await runCommand(question.help, {
    env: context.environment,
    cwd: context.cwd,
    ...(context.user ? { user: context.user } : {}),
    timeoutMs: HELP_WITHIN_MS,
    signal: context.signal,
  })
  const help = `${asked.stdout}\n${asked.stderr}`
  return question.choices.flatMap(({ oneOf, purpose, required }) => {
    const known = oneOf.find((flag) => asked.exitCode === 0 && hasFlag(help, flag))
    if (known === undefined && required)
      throw unknownFlag(question, { oneOf, purpose, asked, name: context.name })
    return known ?? []
  })
}

const hasFlag = (help: string, flag: string): boolean => help.split(/[\s,|[\](){}=]+/).includes(flag)

const unknownFlag = (
  { help }: FlagQuestion,
  {
    oneOf,
    purpose,
    asked,
    name,
  }: {
    readonly oneOf: readonly string[]
    readonly purpose: string
    readonly asked: { readonly exitCode: number | null; readonly stderr: string; readonly timedOut: boolean }
    readonly name: string
  },
): AgentError => {
  const why = asked.timedOut
    ? `it did not answer within ${HELP_WITHIN_MS / 1000} s`
    : asked.exitCode === 0
      ? `it knows neither of ${oneOf.join(', ')}`
      : `it ended with status ${asked.exitCode ?? 'unknown'}\n${asked.stderr.trim().slice(-2_000)}`
  return new AgentError(
    'process_failed',
    `${name} cannot ${purpose}: ${help.join(' ')} was asked, and ${why}`,
    {
      hint: 'Write the flag of your version into command.',
    },
  )
}
