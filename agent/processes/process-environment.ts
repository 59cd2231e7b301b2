import { delimiter } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'

/*
 * Variables that make a program run code or load libraries of somebody else's choosing before its own first line.
 * A manifest has no business with them; whoever needs one writes a script and runs that.
 */
const REFUSED =
  /^(LD_.*|GIT_.*|PIP_.*|BASH_FUNC_.*|PYTHON(STARTUP|PATH|HOME|INSPECT)|NODE_OPTIONS|BASH_ENV|ENV|IFS|AGENTD_.*)$/

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
  },
): Readonly<Record<string, string>> => {
  for (const [variable, value] of Object.entries(declared)) {
    if (REFUSED.test(variable))
      throw new AgentError(
        'invalid_manifest',
        `processes.${options.name}.env: ${variable} is refused, because it makes programs load or run other code`,
        { hint: `Take ${variable} out of env; a script of your own can set it where it is needed.` },
      )
    if (value.includes('\0'))
      throw new AgentError(
        'invalid_manifest',
        `processes.${options.name}.env: ${variable} holds a NUL character`,
      )
  }
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
