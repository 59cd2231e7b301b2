import { readFile, readdir, readlink } from 'node:fs/promises'
import { sep } from 'node:path'

/**
 * Paths below `root` that some process has open, from /proc. Other users' processes show only to root, and a file that
 * is mapped and closed does not show at all: an empty answer is no proof.
 * @param options.writingOnly only descriptors that may write
 */
export const findOpenFiles = async (
  root: string,
  options: { writingOnly: boolean },
): Promise<ReadonlySet<string>> => {
  const found = new Set<string>()
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name) && name !== String(process.pid))
  for (const pid of pids) {
    const folder = `/proc/${pid}/fd`
    const descriptors = await readdir(folder).catch(() => [] as string[])
    await Promise.all(
      descriptors.map(async (descriptor) => {
        const path = await readlink(`${folder}/${descriptor}`).catch(() => '')
        if (!path.startsWith(root + sep)) return
        if (!options.writingOnly || (await mayWrite(pid, descriptor))) found.add(path)
      }),
    )
  }
  return found
}

const ACCESS_MODE = 0o3

const mayWrite = async (pid: string, descriptor: string): Promise<boolean> => {
  const text = await readFile(`/proc/${pid}/fdinfo/${descriptor}`, 'utf8').catch(() => '')
  const flags = /^flags:\s*([0-7]+)/m.exec(text)?.[1]
  return flags !== undefined && (Number.parseInt(flags, 8) & ACCESS_MODE) !== 0
}
