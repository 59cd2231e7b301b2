import { existsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { findProgram } from '../platform/commands.ts'
import type { PlannedProcess } from './planned-process.ts'

/**
 * The absolute path of what a process runs. execvp in the child could only say so in its output; here it is a problem
 * with a name.
 * @throws AgentError working_dir_missing, program_missing
 */
export const locateProgram = (
  plan: Pick<PlannedProcess, 'name' | 'argv' | 'cwd' | 'environment'>,
): string => {
  const [program = ''] = plan.argv
  if (!statSync(plan.cwd, { throwIfNoEntry: false })?.isDirectory())
    throw new AgentError(
      'working_dir_missing',
      `the folder ${plan.cwd} of the process ${plan.name} is not there`,
    )
  const path = program.includes('/') ? resolve(plan.cwd, program) : program
  const found = findProgram(path, plan.environment['PATH'] ?? '')
  if (found === undefined && path.includes('/') && existsSync(path))
    throw new AgentError('program_missing', `${plan.name} cannot start: ${program} is not a program`, {
      hint: `Make it executable (chmod +x), or name the program that reads it.`,
    })
  if (found === undefined)
    throw new AgentError('program_missing', `${plan.name} cannot start: there is no program ${program}`)
  return found
}
