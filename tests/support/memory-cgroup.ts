import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A cgroup whose members together get so much memory; undefined where this machine lets nobody make one. */
export const makeMemoryCgroup = (limitBytes: number): { folder: string; remove: () => void } | undefined => {
  const name = `gpu-agent-test-${process.pid}-${limitBytes}`
  const own = readFileSync('/proc/self/cgroup', 'utf8')
  const places = [
    { folder: join('/sys/fs/cgroup/memory', name), limit: 'memory.limit_in_bytes' },
    { folder: join('/sys/fs/cgroup', /^0::(.*)$/m.exec(own)?.[1] ?? '', name), limit: 'memory.max' },
  ]
  for (const { folder, limit } of places) {
    const remove = (): void => {
      try {
        rmdirSync(folder)
      } catch {
        // Not made, or something in it is still ending; it is empty soon and costs nothing.
      }
    }
    try {
      mkdirSync(folder)
      if (existsSync(join(folder, limit))) {
        writeFileSync(join(folder, limit), String(limitBytes))
        return { folder, remove }
      }
    } catch {
      // Read-only, or another version of cgroups.
    }
    remove()
  }
  return undefined
}
