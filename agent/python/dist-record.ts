import { lstat, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Dist } from './inspect-python.ts'

/** One line of a RECORD: a file that a dist owns. */
export type RecordEntry = {
  /** Relative to the site folder. */
  readonly path: string
  readonly hash: string
  readonly sizeBytes: number | null
}

/** The files that an installed dist owns; none where it has no RECORD. */
export const readDistRecord = async (dist: Dist): Promise<readonly RecordEntry[]> => {
  if (dist.metadata === null) return []
  // Debian's own packages have none: there is nothing to compare, and nothing pip could remove.
  return parseRecord(await readFile(join(dist.metadata, 'RECORD'), 'utf8').catch(() => ''))
}

/** Reads the CSV of a RECORD; a path with a comma or a quote in it is quoted. */
export const parseRecord = (text: string): RecordEntry[] =>
  text.split(/\r?\n/).flatMap((line) => {
    const match = /^(?:"((?:[^"]|"")*)"|([^,]*)),([^,]*),(\d*)$/.exec(line)
    const path = match?.[1]?.replaceAll('""', '"') ?? match?.[2] ?? ''
    return path === ''
      ? []
      : [{ path, hash: match?.[3] ?? '', sizeBytes: match?.[4] ? Number(match[4]) : null }]
  })

/** Compiled files are made again by whoever runs them; their size and hash say nothing. */
export const isCompiled = (path: string): boolean => path.endsWith('.pyc')

/** So many files are looked at side by side: Node's own pool is smaller. */
const SIDE_BY_SIDE = 64

/** What is wrong with the files of a dist: the first that has not the size its RECORD says. */
export const damageOf = async (dist: Dist): Promise<string | undefined> => {
  const entries = (await readDistRecord(dist)).filter(
    ({ path, sizeBytes }) => sizeBytes !== null && !isCompiled(path),
  )
  for (let at = 0; at < entries.length; at += SIDE_BY_SIDE) {
    const found = await Promise.all(
      entries.slice(at, at + SIDE_BY_SIDE).map(async ({ path, sizeBytes }) => {
        const size = await stat(join(dist.location, path)).then(
          (stats) => stats.size,
          () => undefined,
        )
        return size === sizeBytes ? undefined : `${path} has ${size ?? 'no'} bytes instead of ${sizeBytes}`
      }),
    )
    const damage = found.find((one) => one !== undefined)
    if (damage !== undefined) return damage
  }
  return undefined
}

/** Size and time of every file that these dists own, by path: equal maps mean that nobody wrote there. */
export const fingerprint = async (dists: readonly Dist[]): Promise<ReadonlyMap<string, string>> => {
  const marks = new Map<string, string>()
  for (const dist of dists) {
    const paths = (await readDistRecord(dist))
      .filter((entry) => !isCompiled(entry.path))
      .map((entry) => join(dist.location, entry.path))
    await Promise.all(
      paths.map(async (path) => {
        const stats = await lstat(path, { bigint: true }).catch(() => undefined)
        marks.set(path, stats === undefined ? 'gone' : `${stats.size} ${stats.mtimeNs}`)
      }),
    )
  }
  return marks
}
