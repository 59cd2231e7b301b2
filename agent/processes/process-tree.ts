import { readFileSync, readdirSync } from 'node:fs'
import { cgroupMembers, killCgroup } from './job-cgroup.ts'

/** One process for good: a pid is used again, a pid with its start time is not (field 22 of /proc/<pid>/stat). */
export type ProcessIdentity = { readonly pid: number; readonly starttime: string }

type ProcEntry = ProcessIdentity & {
  readonly parent: number
  readonly session: number
  readonly gone: boolean
}

/**
 * Finds every live process of one job, again and again until there is none: those in its cgroup, those that carry its
 * marker in their environment (where there is no cgroup, a process that called setsid is found by nothing else), those
 * in the session of its leader while the leader lives, their descendants, and those found before. A pid whose start
 * time differs is never one of them.
 */
export const createTreeFinder = (job: {
  readonly marker: string
  readonly leader: ProcessIdentity | null
  /** The folder of the job's own cgroup, where it has one. */
  readonly cgroup: string | null
}) => {
  const known = new Map<number, string>()
  return {
    /** SIGKILL to what is in its cgroup, so that nothing can fork away from the signals one by one. */
    killAtOnce: (): void => {
      if (job.cgroup !== null) killCgroup(job.cgroup)
    },
    find: (): readonly ProcessIdentity[] => {
      const entries = readProcesses()
      const leader = entries.find((entry) => isSame(entry, job.leader))
      // The session's number is only the job's own while its leader is proven to be alive and to be the job's.
      const session = leader && hasMarker(leader.pid, job.marker) ? leader.pid : undefined
      const members = new Set<number>()
      const inCgroup = new Set(job.cgroup === null ? [] : cgroupMembers(job.cgroup))
      for (const entry of entries) {
        if (entry.gone || entry.pid === process.pid) continue
        const mine =
          known.get(entry.pid) === entry.starttime ||
          entry.session === session ||
          inCgroup.has(entry.pid) ||
          hasMarker(entry.pid, job.marker)
        if (mine) members.add(entry.pid)
      }
      addDescendants(members, entries)
      const found = entries.filter((entry) => members.has(entry.pid))
      known.clear()
      for (const entry of found) known.set(entry.pid, entry.starttime)
      return found
    },
  }
}
export type TreeFinder = ReturnType<typeof createTreeFinder>

/** Live processes whose environment holds exactly this `NAME=value`. Those of other users are invisible to all but root. */
export const findMarked = (marker: string): readonly ProcessIdentity[] =>
  readProcesses().filter((entry) => !entry.gone && entry.pid !== process.pid && hasMarker(entry.pid, marker))

/** The start time of a live process, or undefined. */
export const readStarttime = (pid: number): string | undefined => {
  const entry = readProcess(pid)
  return entry === undefined || entry.gone ? undefined : entry.starttime
}

const readProcesses = (): ProcEntry[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readProcess(Number(name)) ?? [])

const readProcess = (pid: number): ProcEntry | undefined => {
  const stat = readText(`/proc/${pid}/stat`)
  if (stat === undefined) return undefined
  // The second field is the program's name in parentheses and may hold anything, so count from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state, parent, , session] = fields
  const starttime = fields[19]
  if (starttime === undefined) return undefined
  return {
    pid,
    parent: Number(parent),
    session: Number(session),
    starttime,
    gone: state === 'Z' || state === 'X',
  }
}

const isSame = (entry: ProcEntry, identity: ProcessIdentity | null): boolean =>
  entry.pid === identity?.pid && entry.starttime === identity.starttime && !entry.gone

const hasMarker = (pid: number, marker: string): boolean =>
  `\0${readText(`/proc/${pid}/environ`) ?? ''}`.includes(`\0${marker}\0`)

const addDescendants = (members: Set<number>, entries: readonly ProcEntry[]): void => {
  for (let grown = true; grown;) {
    grown = false
    for (const entry of entries) {
      if (entry.gone || entry.pid === process.pid || members.has(entry.pid) || !members.has(entry.parent))
        continue
      members.add(entry.pid)
      grown = true
    }
  }
}

const readText = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // The process ended between the listing and the look, or belongs to another user.
    return undefined
  }
}
