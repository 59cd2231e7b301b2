import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** How often the kernel killed for memory in this process's cgroup, which the job shares. 0 where that is not said. */
export const readOomKills = (): number => {
  for (const file of [join('/sys/fs/cgroup', ownCgroup(), 'memory.events'), '/sys/fs/cgroup/memory.events']) {
    const kills = /^oom_kill (\d+)$/m.exec(readText(file))?.[1]
    if (kills !== undefined) return Number(kills)
  }
  return Number(/^oom_kill (\d+)$/m.exec(readText('/sys/fs/cgroup/memory/memory.oom_control'))?.[1] ?? 0)
}

const ownCgroup = (): string => /^0::(.*)$/m.exec(readText('/proc/self/cgroup'))?.[1] ?? ''

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Another version of cgroups, or none.
    return ''
  }
}
