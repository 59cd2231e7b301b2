import { setTimeout as delay } from 'node:timers/promises'
import type { TreeFinder } from './process-tree.ts'

/** One step of a stop: the signal, and how long it is given. */
export type Rung = { readonly signal: NodeJS.Signals; readonly waitMs: number }

/**
 * After its own signal a process is asked with SIGTERM, for no longer than the manifest's `stop.timeout`; what then still
 * lives is killed (docker and systemd do the same).
 */
export const stopLadder = (first: Rung): readonly Rung[] => [
  first,
  { signal: 'SIGTERM', waitMs: Math.min(first.waitMs, 10_000) },
]

/** What is left behind when the process itself has ended gets no long farewell. */
export const LEFTOVER_RUNGS: readonly Rung[] = [{ signal: 'SIGTERM', waitMs: 2_000 }]

const LOOK_EVERY_MS = 100
const KILL_FOR_MS = 5_000

/**
 * Ends a whole tree: each rung's signal once to every member, then SIGKILL repeated until a look finds nobody.
 * @param options.hurry true: the leader is gone, so that the rungs' times are cut to two seconds
 * @returns false when something survived SIGKILL for 5 s (it hangs in the kernel)
 */
export const stopTree = async (
  tree: TreeFinder,
  options: { readonly rungs: readonly Rung[]; readonly hurry?: () => boolean },
): Promise<boolean> => {
  for (const rung of options.rungs) {
    const members = tree.find()
    if (members.length === 0) return true
    for (const member of members) sendSignal(member.pid, rung.signal)
    const started = performance.now()
    const waitMs = (): number => (options.hurry?.() ? Math.min(rung.waitMs, 2_000) : rung.waitMs)
    while (performance.now() - started < waitMs()) {
      await delay(LOOK_EVERY_MS)
      if (tree.find().length === 0) return true
    }
  }
  const started = performance.now()
  do {
    const members = tree.find()
    if (members.length === 0) return true
    tree.killAtOnce()
    for (const member of members) sendSignal(member.pid, 'SIGKILL')
    await delay(LOOK_EVERY_MS)
  } while (performance.now() - started < KILL_FOR_MS)
  return tree.find().length === 0
}

/** A signal to a process that may just have ended. */
export const sendSignal = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // It is gone already, which is what was wanted, or it is another user's, which no retry changes.
  }
}
