import { lstat } from 'node:fs/promises'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'

/** Files and folders that only their owner may enter or read; what is not there is passed over. */
export const checkModes = async (paths: readonly string[]): Promise<readonly Problem[]> => {
  const problems: Problem[] = []
  for (const path of paths) {
    const stats = await lstat(path).catch(() => undefined)
    if (stats === undefined || stats.isSymbolicLink() || (stats.mode & 0o077) === 0) continue
    const mode = (stats.mode & 0o777).toString(8)
    const wanted = stats.isDirectory() ? '700' : '600'
    problems.push(
      problemFrom(
        new AgentError('file_exposed', `${path} has mode ${mode}: others than its owner may use it`, {
          hint: `chmod ${wanted} ${path}`,
        }),
        path,
      ),
    )
  }
  return problems
}
