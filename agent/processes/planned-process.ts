import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { z } from 'zod'
import { ProcessSpec } from '../../shared/manifest/schema.ts'
import { comfyuiArgv, ComfyUIProof, comfyuiUrl } from './kinds/comfyui/plan-comfyui.ts'
import { cosmosFlags } from './kinds/cosmos/plan-cosmos.ts'
import { Expectation } from './kinds/expectations.ts'
import { FlagQuestion } from './kinds/flags.ts'
import { processEnvironment } from './process-environment.ts'
import type { JobInput } from './shim/records.ts'

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
  /** What its standard input is. */
  input: z.enum(['terminal', 'none']).default('terminal'),
  cwd: z.string(),
  digest: z.string(),
  readiness: READINESS.nullable(),
  url: z.string().nullable(),
  /** Flags that its version has to be asked for. */
  flags: FlagQuestion.nullable().default(null),
  /** What must be true beyond an answer before it is ready. */
  proof: ComfyUIProof.nullable().default(null),
  /** What it must have made when it ends with 0. */
  outputs: Expectation.nullable().default(null),
  /** Silence for this long is a failure; of a ComfyUI, silence with jobs in its queue. */
  stallMs: z.number().nullable().default(null),
  /** The step before it that writes its variants, and the file that stands in when that fails. */
  variants: z
    .object({ step: z.string(), file: z.string(), fallback: z.string().nullable() })
    .nullable()
    .default(null),
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
  /** The custom nodes of a ComfyUI, as far as the manifest brings them. */
  readonly customNodes?: ComfyUIProof['nodes']
}

const COMFYUI_START_MS = 600_000

export type OneOff = { readonly command: readonly string[]; readonly input: JobInput }

/** A command that is run once, outside of any manifest: in the home folder, with what the box has on its path. */
export const planOneOff = (
  name: string,
  { command, input, searchPath }: OneOff & { readonly searchPath: string },
): PlannedProcess => {
  const spec = ProcessSpec.parse({ kind: 'command', command, working_dir: homedir() })
  const context = { interpreter: null, binFolder: null, environment: {}, searchPath }
  return { ...planProcess(name, spec, context), input }
}

/** Where the step before a Cosmos job writes its variants; the job itself finds them there. */
const VARIANTS = 'VARIANTS_FILE'

/**
 * What a process of the manifest comes to: itself, after the step that makes its variants where it has one. Pure.
 * @param spec with every `${NAME}` in its env replaced
 * @throws AgentError invalid_manifest for refused variables and arguments
 */
export const planJobs = (
  name: string,
  spec: ProcessSpec,
  context: PlanContext,
): readonly PlannedProcess[] => {
  if (spec.kind !== 'cosmos' || spec.variants === undefined) return [planProcess(name, spec, context)]
  const { command, count, fallback } = spec.variants
  const file = join(spec.working_dir, `${name}.variants`)
  const step = `${name}.variants`
  const environment = { ...context.environment, [VARIANTS]: file }
  const { working_dir, env, unsafe_env, user, stop, retries, depends_on, stall_after } = spec
  const inner = { ...context, environment }
  return [
    planProcess(
      step,
      {
        kind: 'command',
        command: withVariants(command, file),
        restart: 'never',
        ...{ working_dir, env, unsafe_env, user, stop, retries, depends_on, stall_after },
      },
      { ...inner, outputs: { kind: 'entries', path: file, count } },
    ),
    planProcess(
      name,
      { ...spec, command: withVariants(spec.command, file), depends_on: [...spec.depends_on, step] },
      { ...inner, variants: { step, file, fallback: fallback === 'none' ? null : fallback } },
    ),
  ]
}

const withVariants = (command: readonly string[], file: string): string[] =>
  command.map((arg) => arg.replaceAll('{variants}', file))

/** The resolved plan of one process. Pure. @throws AgentError invalid_manifest for refused variables and arguments */
export const planProcess = (
  name: string,
  spec: ProcessSpec,
  context: PlanContext & Partial<Pick<StoredPlan, 'outputs' | 'variants'>>,
): PlannedProcess => {
  const { interpreter } = context
  const argv =
    spec.kind === 'comfyui' ? comfyuiArgv(name, { spec, interpreter }) : commandArgv(spec.command, context)
  const own = {
    name,
    unsafe: spec.unsafe_env,
    binFolder: context.binFolder,
    provided: context.environment,
  }
  const { searchPath } = context
  const environment = processEnvironment(spec.env, searchPath === undefined ? own : { ...own, searchPath })
  const cwd = spec.working_dir ?? '/'
  const url = spec.kind === 'comfyui' ? comfyuiUrl(spec) : readyUrl(spec)
  const readiness = planReadiness(spec)
  const judged = {
    flags: planFlags(name, { spec, argv }),
    proof: planProof(spec, context),
    outputs: context.outputs ?? planOutputs(spec, cwd),
    stallMs: spec.stall_after ?? null,
    variants: context.variants ?? null,
  }
  const { restart, retries, stop, user, depends_on: dependsOn } = spec
  const digest = createHash('sha256')
    .update(
      JSON.stringify([
        argv,
        cwd,
        // Where the agent itself was started from is no change of the process: a PATH of another shell ends no render.
        Object.entries(processEnvironment(spec.env, own)).sort(([a], [b]) => (a < b ? -1 : 1)),
        { restart, retries, stop, user, dependsOn, readiness },
        // What a process does not have leaves its digest alone: it is not started anew for a key that came later.
        ...Object.entries({
          ...judged,
          proof: judged.proof?.nodes.length ? judged.proof.nodes : null,
          // A ComfyUI is not ended for its silence, so another limit is no reason to start it anew.
          stallMs: spec.kind === 'comfyui' ? null : judged.stallMs,
        }).filter(([, value]) => value !== null),
      ]),
    )
    .digest('hex')
  // The variables are in `environment`; here they would put secrets on the disk.
  const stored = { name, spec: { ...spec, env: {} }, argv, input: 'terminal' as const, cwd, digest }
  return { ...stored, environment, readiness, url, ...judged }
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

const planFlags = (
  name: string,
  { spec, argv }: { readonly spec: ProcessSpec; readonly argv: readonly string[] },
): FlagQuestion | null => {
  if (spec.kind === 'cosmos') return cosmosFlags(name, { spec, argv })
  if (spec.kind === 'command') return null
  const [interpreter = ''] = argv
  const choice = { oneOf: ['--disable-auto-launch'], purpose: 'start without a browser', required: false }
  return { help: [interpreter, 'main.py', '--help'], choices: [choice] }
}

const planProof = (spec: ProcessSpec, context: PlanContext): ComfyUIProof | null =>
  spec.kind === 'comfyui'
    ? { url: comfyuiUrl(spec), workflows: spec.workflows, nodes: context.customNodes ?? [] }
    : null

const planOutputs = (spec: ProcessSpec, cwd: string): Expectation | null => {
  if (spec.kind === 'comfyui' || spec.expect_outputs === undefined) return null
  const { path, glob, count } = spec.expect_outputs
  return { kind: 'files', path: isAbsolute(path) ? path : join(cwd, path), glob, count }
}

const readyUrl = (spec: ProcessSpec): string | null => {
  if (spec.kind !== 'command') return null
  if (spec.ready?.http !== undefined) return new URL('/', spec.ready.http).href
  return spec.ready?.port === undefined ? null : `http://127.0.0.1:${spec.ready.port}/`
}
