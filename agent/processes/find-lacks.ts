import { statSync } from 'node:fs'
import { basename, resolve } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { findAccount } from './account.ts'
import { locateProgram } from './locate-program.ts'
import type { PlannedProcess } from './planned-process.ts'

/** What a process could not be started for on the box as it is now. */
export type Lack = {
  readonly error: AgentError
  /** `account`: only an admin changes that; `program` and `script` may yet be brought by something. */
  readonly what: 'account' | 'program' | 'script'
  /** The program as the command names it, the absolute path of a script. */
  readonly path: string
}

/**
 * Everything that a start would stumble over: no such user, no such program, no such script. A working folder that is
 * not there is told by itself, and hides the rest. Looks only; runs nothing.
 */
export const findLacks = (plan: PlannedProcess): readonly Lack[] => {
  if (!isThere(plan.cwd)) return []
  return [
    ...lackOf(() => findAccount(plan.spec.user), { what: 'account', path: plan.spec.user ?? '' }),
    ...lackOf(() => locateProgram(plan), { what: 'program', path: plan.argv[0] ?? '' }),
    ...missingScript(plan),
  ]
}

const isThere = (path: string): boolean => statSync(path, { throwIfNoEntry: false }) !== undefined

const lackOf = (look: () => unknown, lack: Omit<Lack, 'error'>): readonly Lack[] => {
  try {
    look()
    return []
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return [{ ...lack, error }]
  }
}

const RUNS_SCRIPTS = /^(python[\d.]*|sh|bash)$/
/** Flags before a script that take no value. */
const PLAIN_FLAGS: readonly (string | undefined)[] = ['-u', '-B']

const missingScript = ({ name, argv, cwd }: PlannedProcess): readonly Lack[] => {
  const [program = '', ...args] = argv
  const script = args.find((arg) => !PLAIN_FLAGS.includes(arg))
  if (!RUNS_SCRIPTS.test(basename(program)) || script === undefined || script.startsWith('-')) return []
  const path = resolve(cwd, script)
  if (isThere(path)) return []
  const error = new AgentError('program_missing', `${name} cannot start: there is no file ${path}`, {
    hint: 'Put it there, or correct command and working_dir.',
  })
  return [{ error, what: 'script', path }]
}
