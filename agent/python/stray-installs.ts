import { readdirSync, readFileSync } from 'node:fs'
import type { PythonContext } from './context.ts'

/** The variable that marks every program of an install, so that a later agent finds what an earlier one left. */
export const INSTALL_MARK = 'GPU_AGENT_INSTALL'

/** Ends programs of an install in this overlay that are still running although their agent is gone. */
export const endStrayInstalls = async (
  root: string,
  context: Pick<PythonContext, 'clock' | 'log'>,
): Promise<void> => {
  // Ten seconds: a killed process goes at once, except while it waits for a disk.
  for (let tries = 0; tries < 100; tries += 1) {
    const strays = strayProcesses(root)
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

const strayProcesses = (root: string): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`${INSTALL_MARK}=${root}`)
      } catch {
        // Another user's process, or one that just ended: none of ours.
        return false
      }
    })
