import { delimiter } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'

/*
 * Variables that make a program run code or load libraries of somebody else's choosing before its own first line. A
 * manifest has them only where its owner, an admin of the box, names them in unsafe_env.
 */
const UNSAFE =
  /^(LD_.*|GCONV_PATH|GIT_.*|PIP_.*|BASH_FUNC_.*|BASH_ENV|ENV|IFS|PYTHON.*|NODE_(OPTIONS|PATH)|PERL5(LIB|OPT)|RUBY(LIB|OPT)|JAVA_TOOL_OPTIONS)$/
/** Python's, as far as they only say how it prints, counts and writes. */
const SAFE_PYTHON =
  /^PYTHON(UNBUFFERED|FAULTHANDLER|HASHSEED|IOENCODING|UTF8|DONTWRITEBYTECODE|NOUSERSITE|MALLOC|DEVMODE)$/
/** The agent's own, by which it finds its processes again. */
const OWN = /^AGENTD_/

/** Where programs are looked for when nothing else is said; the first two hold nvcc and nvidia-smi on GPU images. */
const SYSTEM_PATH =
  '/usr/local/cuda/bin:/usr/local/nvidia/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * The whole environment of a process: the declared variables on a fixed base. Nothing of the agent's own is inherited,
 * so none of its secrets leaks. HOME and USER are added at the start: they are those of the account it runs under.
 * @param options.binFolder the overlay's bin folder, first on PATH; null without an overlay
 * @param options.provided what the agent itself adds (the overlay's constraints, HF_HOME); not checked, and it wins
 * @param options.searchPath where programs are looked for when the manifest sets no PATH; the system's by default
 * @throws AgentError invalid_manifest for a variable that would run foreign code
 */
export const processEnvironment = (
  declared: Readonly<Record<string, string>>,
  options: {
    readonly name: string
    readonly binFolder: string | null
    readonly provided?: Readonly<Record<string, string>>
    readonly searchPath?: string
    /** Names that are meant, though they are refused otherwise. */
    readonly unsafe: readonly string[]
  },
): Readonly<Record<string, string>> => {
  const problems = refusals(declared, options)
  const [first] = problems
  if (first) throw new AgentError('invalid_manifest', first.message, { hint: first.hint, problems })
  return {
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    TERM: 'xterm-256color',
    // Without it a Python program without a terminal keeps its output to itself for minutes.
    PYTHONUNBUFFERED: '1',
    ...declared,
    ...options.provided,
    PATH: [options.binFolder ?? '', declared['PATH'] ?? options.searchPath ?? SYSTEM_PATH]
      .filter(Boolean)
      .join(delimiter),
  }
}

/** Every variable that is refused, so that nobody corrects them one plan at a time. */
const refusals = (
  declared: Readonly<Record<string, string>>,
  { name, unsafe }: { readonly name: string; readonly unsafe: readonly string[] },
): readonly Problem[] =>
  Object.entries(declared).flatMap(([variable, value]) => {
    const refuse = (why: string, hint: string): Problem[] => [
      problemFrom(
        new AgentError('invalid_manifest', `processes.${name}.env: ${variable} ${why}`, { hint }),
        name,
      ),
    ]
    const takeOut = `Take ${variable} out of env`
    if (OWN.test(variable)) return refuse("is the agent's own", `${takeOut}.`)
    if (UNSAFE.test(variable) && !SAFE_PYTHON.test(variable) && !unsafe.includes(variable))
      return refuse(
        'is refused, because it makes programs load or run other code',
        `${takeOut}; if it is meant, name it in processes.${name}.unsafe_env, which needs an admin's token.`,
      )
    return value.includes('\0')
      ? refuse('holds a NUL character', `${takeOut}, or give it another value.`)
      : []
  })
