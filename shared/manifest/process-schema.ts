import { z } from 'zod'
import {
  absolutePath,
  command,
  count,
  duration,
  filePath,
  flag,
  list,
  name,
  path,
  port,
  scalarText,
} from './values.ts'

/*
 * What the agent keeps running or runs once. The three kinds share most keys; each has its own default for restart.
 */

const variable = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not the name of an environment variable')
const environment = z.record(variable, scalarText)
const restart = z.enum(['always', 'on-failure', 'never'])
const RESTART = 'always: a service. on-failure or never: a job, which may end.'

const Stop = z.strictObject({
  signal: z
    .enum(['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP'])
    .default('SIGINT')
    .describe('The signal that asks the process to end.'),
  timeout: duration.prefault('10s').describe('How long it may take before it is killed.'),
})

const Ready = z
  .strictObject({
    http: z
      .string()
      .regex(
        /^http:\/\/(127\.0\.0\.1|localhost|\[::1\])([:/]|$)/,
        'is not an address on this box; write http://127.0.0.1:PORT/',
      )
      .optional()
      .describe('Ready when this address on loopback answers.'),
    log: z
      .string()
      .refine(
        (text) => isRegularExpression(text),
        'is not a regular expression; escape what is meant literally',
      )
      .optional()
      .describe('Ready when a line of the output matches this regular expression.'),
    port: port.optional().describe('Ready when something listens on this port.'),
    within: duration.prefault('60s').describe('Later than this is a failure.'),
  })
  .refine(
    (ready) => [ready.http, ready.log, ready.port].filter((one) => one !== undefined).length === 1,
    'needs exactly one of http, log and port; keep one of them',
  )

const common = {
  env: environment.default({}).describe('Its environment, beside a small fixed one. ${NAME} takes a secret.'),
  unsafe_env: list(variable).describe(
    'Names in env that are refused otherwise, because they make programs load other code; needs the scope admin.',
  ),
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]*$/, 'is not the name of a user')
    .optional()
    .describe('The user it runs as; otherwise the agent’s own.'),
  stop: Stop.prefault({}).describe('How it is asked to end.'),
  retries: z
    .int('is not a whole number; write 0 to 100')
    .min(0, 'is too small; write 0 to 100')
    .max(100, 'is too large; write 0 to 100')
    .default(3)
    .describe('How often on-failure starts it again.'),
  depends_on: list(name).describe('Starts only when these are ready, or have ended with 0.'),
}

const job = {
  expect_outputs: z
    .strictObject({
      path: path.describe('The folder of the outputs; relative to working_dir, or absolute.'),
      glob: z.string().min(1, 'is empty; write a pattern like *.mp4').describe('Which files count.'),
      count: count.describe('How many there must be.'),
    })
    .optional()
    .describe('Fewer files than this at the end is a failure, whatever the exit status.'),
  stall_after: duration.optional().describe('No output and an idle GPU for this long is a failure.'),
}

const ComfyUIProcess = z.strictObject({
  kind: z.literal('comfyui'),
  working_dir: absolutePath.describe('The folder of ComfyUI.'),
  port: port.default(8188).describe('Bound to loopback; reached through the agent.'),
  args: list(z.string()).describe('More arguments for main.py.'),
  workflows: list(absolutePath).describe(
    'Workflow files; every node and model they name must be there before the box is ready.',
  ),
  restart: restart.default('always').describe(RESTART),
  ready: Ready.optional().describe('How readiness is told; by default ComfyUI’s own API answers.'),
  stall_after: duration
    .prefault('15m')
    .describe('Jobs in its queue, no progress and an idle GPU for this long: it is unresponsive.'),
  ...common,
})

const CosmosProcess = z.strictObject({
  kind: z.literal('cosmos'),
  working_dir: absolutePath.describe('The folder of the Cosmos repository.'),
  command: command.describe('The program and its arguments; no shell.'),
  restart: restart.default('never').describe(RESTART),
  guardrails: flag(false).describe(
    'Leaves the guardrail models on; false adds the flag that turns them off.',
  ),
  variants: z
    .strictObject({
      command: command.describe('Writes the prompt variants.'),
      count: count.describe('How many it must write.'),
      fallback: filePath
        .default('none')
        .describe(
          'none: a failure fails the run. A file: it is used instead, and that is on record as a problem.',
        ),
    })
    .optional()
    .describe('A step before the command that makes prompt variants.'),
  ...job,
  ...common,
})

const CommandProcess = z.strictObject({
  kind: z.literal('command'),
  working_dir: absolutePath.optional().describe('The folder it starts in.'),
  command: command.describe('The program and its arguments; no shell.'),
  restart: restart.default('never').describe(RESTART),
  ready: Ready.optional().describe('How readiness is told; by default it is ready once it runs.'),
  ...job,
  ...common,
})

export const ProcessSpec = z.discriminatedUnion('kind', [ComfyUIProcess, CosmosProcess, CommandProcess])
export type ProcessSpec = z.infer<typeof ProcessSpec>

const isRegularExpression = (text: string): boolean => {
  try {
    new RegExp(text)
    return true
  } catch {
    return false
  }
}
