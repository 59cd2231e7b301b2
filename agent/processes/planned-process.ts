import { createHash } from 'node:crypto'
import { z } from 'zod'
import { AgentError } from '../../shared/contract/errors.ts'
import type { ProcessSpec } from '../../shared/manifest/schema.ts'
import { processEnvironment } from './process-environment.ts'

const READINESS = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('http'), url: z.string(), withinMs: z.number() }),
  z.object({ kind: z.literal('log'), pattern: z.string(), withinMs: z.number() }),
  z.object({ kind: z.literal('port'), port: z.number(), withinMs: z.number() }),
])
/** How it is known that a process does its work; times in milliseconds from its start. */
export type Readiness = z.infer<typeof READINESS>

/**
 * What is kept on disk of a plan: all but the environment, which may hold secrets. Durations of the specification are
 * milliseconds already, so it is not read through its schema again.
 */
export const StoredPlan = z.object({
  name: z.string(),
  spec: z.custom<ProcessSpec>((value) => typeof value === 'object' && value !== null),
  argv: z.array(z.string()).min(1).readonly(),
  cwd: z.string(),
  digest: z.string(),
  readiness: READINESS.nullable(),
  url: z.string().nullable(),
})
export type StoredPlan = Readonly<z.infer<typeof StoredPlan>>

/** A process with everything resolved: two plans with one digest start the same program in the same way. */
export type PlannedProcess = StoredPlan & { readonly environment: Readonly<Record<string, string>> }

export type PlanContext = {
  /** The overlay's Python, which `python` and `python3` mean; null when the manifest has no Python. */
  readonly interpreter: string | null
  /** The overlay's bin folder. */
  readonly binFolder: string | null
  /** What the agent itself provides to every process (the overlay's, HF_HOME); it wins over what is declared. */
  readonly environment: Readonly<Record<string, string>>
  /** Where programs are looked for; the system's usual places by default. */
  readonly searchPath?: string
}

const COMFYUI_START_MS = 600_000

/**
 * The resolved plan of one process of the manifest. Pure.
 * @param spec with every `${NAME}` in its env replaced
 * @throws AgentError invalid_manifest for refused variables and arguments
 */
export const planProcess = (name: string, spec: ProcessSpec, context: PlanContext): PlannedProcess => {
  const argv = spec.kind === 'comfyui' ? comfyuiArgv(name, spec, context) : commandArgv(spec.command, context)
  const environment = processEnvironment(spec.env, {
    name,
    binFolder: context.binFolder,
    provided: context.environment,
    ...(context.searchPath === undefined ? {} : { searchPath: context.searchPath }),
  })
  const cwd = spec.working_dir ?? '/'
  const url = spec.kind === 'comfyui' ? `http://127.0.0.1:${spec.port}/` : readyUrl(spec)
  const readiness = planReadiness(spec)
  const { restart, retries, stop, user, depends_on: dependsOn } = spec
  const digest = createHash('sha256')
    .update(
      JSON.stringify([
        argv,
        cwd,
        Object.entries(environment).sort(([a], [b]) => (a < b ? -1 : 1)),
        { restart, retries, stop, user, dependsOn, readiness },
      ]),
    )
    .digest('hex')
  // The variables are in `environment`; here they would put secrets on the disk.
  return { name, spec: { ...spec, env: {} }, argv, cwd, environment, digest, readiness, url }
}

/** ComfyUI on loopback alone: whoever reaches its port runs code on the box, so only the agent's door leads there. */
const comfyuiArgv = (
  name: string,
  spec: Extract<ProcessSpec, { kind: 'comfyui' }>,
  context: PlanContext,
): readonly string[] => {
  // argparse takes `--listen=…` and any unambiguous beginning of an option as the option itself.
  const opened = spec.args.find((arg) => /^--(li|lis|list|liste|listen|enable-cor.*)(=|$)/.test(arg))
  if (opened !== undefined)
    throw new AgentError(
      'invalid_manifest',
      `processes.${name}.args: ${opened} is refused, because it opens ComfyUI to others`,
      { hint: `Take it out and open the page through the agent: agentctl open ${name}.` },
    )
  const port = spec.args.find((arg) => /^--po(r|rt)?(=|$)/.test(arg))
  if (port !== undefined)
    throw new AgentError('invalid_manifest', `processes.${name}.args: ${port} contradicts the key port`, {
      hint: `Write processes.${name}.port instead.`,
    })
  return [
    context.interpreter ?? 'python3',
    'main.py',
    '--listen',
    '127.0.0.1',
    '--port',
    String(spec.port),
    '--disable-auto-launch',
    ...spec.args,
  ]
}

const commandArgv = (command: readonly string[], context: PlanContext): readonly string[] => {
  const [program = '', ...args] = command
  const isPython = program === 'python' || program === 'python3'
  return [isPython && context.interpreter !== null ? context.interpreter : program, ...args]
}

const planReadiness = (spec: ProcessSpec): Readiness | null => {
  if (spec.kind === 'cosmos') return null
  const { ready } = spec
  if (ready?.http !== undefined) return { kind: 'http', url: ready.http, withinMs: ready.within }
  if (ready?.log !== undefined) return { kind: 'log', pattern: ready.log, withinMs: ready.within }
  if (ready?.port !== undefined) return { kind: 'port', port: ready.port, withinMs: ready.within }
  if (spec.kind === 'command') return null
  return {
    kind: 'http',
    url: `http://127.0.0.1:${spec.port}/system_stats`,
    withinMs: COMFYUI_START_MS,
  }
}

const readyUrl = (spec: ProcessSpec): string | null => {
  if (spec.kind !== 'command') return null
  if (spec.ready?.http !== undefined) return new URL('/', spec.ready.http).href
  return spec.ready?.port === undefined ? null : `http://127.0.0.1:${spec.ready.port}/`
}
