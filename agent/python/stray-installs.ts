import { readdirSync, readFileSync } from 'node:fs'
import type { PythonContext } from './context.ts'

/**
 * The variable that marks every program of this room, so that a later agent finds what an earlier one left. Its value
 * is the overlay's folder for what changes an overlay, and the room's folder for what only looks.
 */
export const INSTALL_MARK = 'GPU_AGENT_INSTALL'

/**
 * Ends marked programs that are still running although their agent is gone.
 * @param isStray decides by the value of the mark
 */
export const endStrayInstalls = async (
  isStray: (mark: string) => boolean,
  context: Pick<PythonContext, 'clock' | 'log'>,
): Promise<void> => {
  // Ten seconds: a killed process goes at once, except while it waits for a disk.
  for (let tries = 0; tries < 100; tries += 1) {
    const strays = strayProcesses(isStray)
    if (strays.length === 0) return
    if (tries === 0) context.log.warn('an install that was left behind is ended', { processes: strays })
    for (const pid of strays)
      try {
        process.kill(pid, 'SIGKILL')
      } catch {
        // It ended by itself in between.
      }
    await context.clock.sleep(100)
  }
}

const strayProcesses = (isStray: (mark: string) => boolean): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid)
    .filter((pid) => {
      try {
        const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
        const mark = variables.find((variable) => variable.startsWith(`${INSTALL_MARK}=`))
        return mark !== undefined && isStray(mark.slice(INSTALL_MARK.length + 1))
      } catch {
        // Another user's process, or one that just ended: none of ours.
        return false
      }
    })
