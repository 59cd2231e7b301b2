import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/*
 * A cgroup (version 2) of one job, where this box allows to make one: whatever the job starts is in it, however it
 * forks and whatever it does to its environment, and the kernel kills all of it at once. Unprivileged containers have
 * their cgroups read-only; there the marker in the environment is what finds a job's processes.
 */

/** The places where version 2 is mounted: alone, or beside version 1. */
const MOUNTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']

/**
 * Runs `start` inside a new cgroup: what it starts is born there, so that nothing can fork away before it is moved. This
 * process itself comes out again. The cgroup is null where none can be made.
 */
export const startInCgroup = async <T>(
  jobId: string,
  start: () => Promise<T>,
): Promise<{ readonly started: T; readonly cgroup: string | null }> => {
  const cgroup = makeCgroup(jobId)
  try {
    return { started: await start(), cgroup }
  } finally {
    if (cgroup !== null) writeFileSync(join(cgroup, '..', 'cgroup.procs'), String(process.pid))
  }
}

/** Makes it beside this process's own and moves this process into it. */
const makeCgroup = (jobId: string): string | null => {
  for (const mount of MOUNTS) {
    const folder = join(mount, ownCgroup(), `gpu-agent-${jobId}`)
    try {
      // A tmpfs with folders of version 1 would take the folder too, and mean nothing by it.
      if (!existsSync(join(mount, 'cgroup.procs'))) continue
      mkdirSync(folder)
      if (existsSync(join(folder, 'cgroup.kill'))) {
        writeFileSync(join(folder, 'cgroup.procs'), String(process.pid))
        return folder
      }
    } catch {
      // Read-only, not ours, or too old a kernel.
    }
    removeJobCgroup(folder)
  }
  return null
}

/** The processes in it; none when it is gone. */
export const cgroupMembers = (folder: string): readonly number[] => {
  try {
    return readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** SIGKILL to everything in it, in one stroke. */
export const killCgroup = (folder: string): void => {
  try {
    writeFileSync(join(folder, 'cgroup.kill'), '1')
  } catch {
    // It is gone already.
  }
}

export const removeJobCgroup = (folder: string): void => {
  try {
    rmdirSync(folder)
  } catch {
    // Something that the kernel has not taken away yet is in it; an empty cgroup left behind costs nothing.
  }
}

const ownCgroup = (): string => {
  try {
    return /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? ''
  } catch {
    return ''
  }
}
