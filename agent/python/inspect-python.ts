import { AgentError } from '../../shared/contract/errors.ts'
import type { CommandResult } from '../platform/commands.ts'
import { runCommand } from '../platform/commands.ts'
import { errorText } from '../platform/files.ts'
import { programFile } from '../platform/program-file.ts'
import { cleanEnvironment } from './clean-environment.ts'

const SCRIPT = programFile(import.meta.dirname, 'environment.py', 'python-environment.py')
const WEIGHER = programFile(import.meta.dirname, 'weigh-requirements.py', 'python-weigh-requirements.py')
/** A cold network disk can take this long to read some hundred dists. */
const TIMEOUT_MS = 120_000

/** One installed distribution, as its own metadata says. */
export type Dist = {
  readonly name: string
  readonly version: string
  /** The site folder it lies in. */
  readonly location: string
  /** Its `.dist-info` folder, where it has one. */
  readonly metadata: string | null
  readonly requires: readonly string[]
}

/** What a Python is and holds. */
export type PythonFacts = {
  readonly interpreter: string
  readonly version: string
  readonly prefix: string
  readonly basePrefix: string
  readonly purelib: string
  /** Folders whose packages it imports, first wins. */
  readonly sites: readonly string[]
  readonly hasVenv: boolean
  readonly hasPip: boolean
  readonly hasEnsurepip: boolean
  readonly pipVersion: string | null
  readonly dists: readonly Dist[]
  /** Folders of metadata that cannot be read; pip breaks off at the sight of one. */
  readonly unreadable: readonly string[]
  readonly markers: Readonly<Record<string, string>>
  /** Of the compiled modules that it imports: `.cpython-311-x86_64-linux-gnu.so`. */
  readonly suffixes: readonly string[]
}

/** One requirement, read and weighed by the Python that it is for. */
export type Weighed =
  | { readonly error: string }
  | {
      readonly error?: never
      /** Canonical: lower case, single dashes. */
      readonly name: string
      readonly specifier: string
      /** Without its marker. */
      readonly text: string
      readonly url: string | null
      /** False when its marker excludes this Python. */
      readonly applies: boolean
      readonly installed: string | null
      readonly satisfied: boolean
      /** What is lacking for it, its own requirements included. */
      readonly missing: readonly string[]
    }

export type WeighedPython = PythonFacts & {
  /** Names that count as installed, with the version, because another build of the same thing is. */
  readonly aliases: Readonly<Record<string, string>>
  /** In the order of the request. */
  readonly weighed: readonly Weighed[]
  /** Indexes of requirements that no version satisfies together. */
  readonly conflicts: readonly (readonly number[])[]
  /** Dist → what it requires in exactly one version. */
  readonly pins: Readonly<Record<string, readonly string[]>>
  /** Dist → those of its requirements that were not met to begin with. */
  readonly unmet: Readonly<Record<string, readonly string[]>>
}

type Look = {
  readonly signal: AbortSignal
  readonly environment?: Readonly<Record<string, string | undefined>>
}

/**
 * Describes a Python without changing it or running anything of its packages.
 * @throws AgentError no_interpreter, with what is wrong with it
 */
export const inspectPython = async (interpreter: string, look: Look): Promise<PythonFacts> => {
  const facts = await askPython<PythonFacts>(interpreter, {}, look)
  refuseUnusable(interpreter, facts)
  return facts
}

/**
 * Refuses a Python that no overlay can be made of.
 * @throws AgentError no_interpreter
 */
export const refuseUnusable = (interpreter: string, facts: PythonFacts): void => {
  if (!facts.hasVenv)
    throw unusable(
      interpreter,
      'it has no venv module',
      'Install it: on Debian and Ubuntu, apt install python3-venv.',
    )
  if (!facts.hasPip && !facts.hasEnsurepip)
    throw unusable(
      interpreter,
      'it has neither pip nor ensurepip',
      'Install one: on Debian and Ubuntu, apt install python3-pip python3-venv.',
    )
}

/**
 * Describes a Python and weighs requirements in it, with pip's own reader of versions and markers.
 * @throws AgentError no_interpreter
 */
export const weighRequirements = async (
  interpreter: string,
  question: Look & {
    readonly requirements: readonly string[]
    /** Folder of the overlay, whose dists are followed into their own requirements. */
    readonly overlay: string | null
    /** Weigh as if these versions were installed. */
    readonly pretend?: Readonly<Record<string, string>>
  },
): Promise<WeighedPython> => {
  const { requirements, overlay, pretend } = question
  return askPython<WeighedPython>(interpreter, { requirements, overlay, pretend }, question)
}

/** `Foo.Bar_baz` → `foo-bar-baz`, the one form in which names compare. */
export const canonicalName = (name: string): string => name.toLowerCase().replace(/[-_.]+/g, '-')

const askPython = async <T extends PythonFacts>(
  interpreter: string,
  request: Readonly<Record<string, unknown>>,
  look: Look,
): Promise<T> => {
  const result = await runCommand([interpreter, '-I', '-B', '-X', 'utf8', SCRIPT, WEIGHER], {
    env: cleanEnvironment(look.environment ?? process.env),
    signal: look.signal,
    timeoutMs: TIMEOUT_MS,
    input: JSON.stringify(request),
    maxOutputBytes: 64 * 2 ** 20,
  }).catch((error: unknown) => {
    if (error instanceof AgentError && error.code === 'spawn_failed')
      throw unusable(interpreter, errorText(error.cause ?? error), undefined, error)
    throw error
  })
  const answer = readAnswer(interpreter, result) as T & { tooOld?: boolean; error?: string }
  if (answer.tooOld) throw unusable(interpreter, `it is Python ${answer.version}, older than 3.9`)
  if (answer.error !== undefined) throw unusable(interpreter, answer.error)
  return answer
}

const readAnswer = (interpreter: string, result: CommandResult): unknown => {
  if (result.timedOut) throw unusable(interpreter, `it did not answer within ${TIMEOUT_MS / 1000} s`)
  // A .pth file of the environment may print: the answer is the last line.
  const line = result.stdout.trim().split('\n').at(-1) ?? ''
  if (result.exitCode !== 0 || !line.startsWith('{')) {
    const last = result.stderr.trim().split('\n').at(-1) ?? ''
    throw unusable(
      interpreter,
      `it is not a working Python (${last || `exit ${result.exitCode ?? result.signal}`})`,
    )
  }
  return JSON.parse(line)
}

const unusable = (interpreter: string, why: string, hint?: string, cause?: unknown): AgentError =>
  new AgentError('no_interpreter', `cannot use ${interpreter}: ${why}`, {
    ...(hint === undefined ? {} : { hint }),
    cause,
  })
