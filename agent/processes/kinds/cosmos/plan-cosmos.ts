import { basename } from 'node:path'
import { AgentError } from '../../../../shared/contract/errors.ts'
import type { ProcessSpec } from '../../../../shared/manifest/schema.ts'
import type { FlagQuestion } from '../flags.ts'

type CosmosSpec = Extract<ProcessSpec, { kind: 'cosmos' }>

/** Cosmos 2.5 (examples/inference.py) knows the first, Cosmos 3 (cosmos_framework.scripts.inference) the second. */
const GUARDRAILS_OFF = ['--disable-guardrails', '--no-guardrails']
const GUARDRAIL_FLAGS = [...GUARDRAILS_OFF, '--no-disable-guardrails', '--guardrails']
/** With it a blocked prompt is passed over with exit status 0 and no output; 2.5 does so by default. */
const KEEP_GOING = ['--keep-going', '--no-keep-going']

/**
 * What its version has to be asked before a start; null when the command says it all.
 * @param argv with the interpreter resolved
 * @throws AgentError invalid_manifest when the command contradicts `guardrails`
 */
export const cosmosFlags = (
  name: string,
  { spec, argv }: { readonly spec: CosmosSpec; readonly argv: readonly string[] },
): FlagQuestion | null => {
  const off = argv.find((arg) => GUARDRAILS_OFF.includes(arg))
  if (spec.guardrails && off !== undefined)
    throw new AgentError(
      'invalid_manifest',
      `processes.${name}.command: ${off} contradicts guardrails: true`,
      { hint: `Take ${off} out of command, or guardrails: true.` },
    )
  const help = helpArgv(argv)
  if (help === null) return null
  const says = (flags: readonly string[]): boolean => argv.some((arg) => flags.includes(arg))
  const choices = [
    ...(spec.guardrails || says(GUARDRAIL_FLAGS)
      ? []
      : [{ oneOf: GUARDRAILS_OFF, purpose: 'run without guardrails', required: true }]),
    ...(says(KEEP_GOING)
      ? []
      : [{ oneOf: ['--no-keep-going'], purpose: 'stop at a failure', required: false }]),
  ]
  return choices.length === 0 ? null : { help, choices }
}

/**
 * The command that prints the help of the script: everything up to the script or module. A launcher of several
 * processes would print it several times and wait for all of them, so Python itself is asked instead.
 */
const helpArgv = (argv: readonly string[]): readonly string[] | null => {
  const module = argv.findIndex((arg, at) => arg === '-m' && !isLauncher(argv[at + 1] ?? ''))
  const script = argv.findIndex((arg) => arg.endsWith('.py'))
  const launcher = argv.findIndex(isLauncher)
  const [from, to] = module !== -1 ? [module, module + 2] : [script, script + 1]
  if (from === -1) return null
  return launcher !== -1 && launcher < from
    ? [...pythonOf(argv, launcher), ...argv.slice(from, to), '--help']
    : [...argv.slice(0, to), '--help']
}

const isLauncher = (arg: string): boolean =>
  basename(arg) === 'torchrun' || arg === 'torch.distributed.run' || arg === 'torch.distributed.launch'

/** The Python of `python -m torch.distributed.run …`, or the one beside `/venv/bin/torchrun`. */
const pythonOf = (argv: readonly string[], launcher: number): readonly string[] => {
  if (argv[launcher - 1] === '-m') return argv.slice(0, launcher - 1)
  const program = argv[launcher] ?? ''
  return [...argv.slice(0, launcher), program.includes('/') ? program.replace(/[^/]*$/, 'python') : 'python']
}
