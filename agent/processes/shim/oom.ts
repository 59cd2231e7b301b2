import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * How often the kernel killed for memory in this process's cgroup, which the job shares. Where no cgroup says it, how
 * often it did on the whole machine: on a shared host that may have been somebody else.
 */
export const readOomKills = (): number => {
  const own = readText('/proc/self/cgroup')
  const unified = /^0::(.*)$/m.exec(own)?.[1] ?? ''
  const memory = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(own)?.[1] ?? ''
  const files = [
    join('/sys/fs/cgroup', unified, 'memory.events'),
    '/sys/fs/cgroup/memory.events',
    join('/sys/fs/cgroup/memory', memory, 'memory.oom_control'),
    '/sys/fs/cgroup/memory/memory.oom_control',
    '/proc/vmstat',
  ]
  for (const file of files) {
    const kills = /^oom_kill (\d+)$/m.exec(readText(file))?.[1]
    if (kills !== undefined) return Number(kills)
  }
  return 0
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Another version of cgroups, or none.
    return ''
  }
}
