import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Larger files are generated data; more files than this are somebody's whole environment. */
const LARGEST_BYTES = 2 * 2 ** 20
const MOST_FILES = 5_000

/**
 * Those of the names that stand in quotes in the Python files under the paths: a node class is entered in a map by its
 * name. Nothing is executed; a name that a program puts together is not found.
 */
export const findQuoted = async (
  names: readonly string[],
  paths: readonly string[],
): Promise<ReadonlySet<string>> => {
  const left = new Set(names)
  const found = new Set<string>()
  if (left.size === 0) return found
  for (const file of (await Promise.all(paths.map(pythonFiles))).flat().slice(0, MOST_FILES)) {
    if (left.size === 0) break
    const text = await readText(file)
    for (const name of left)
      if (text.includes(`"${name}"`) || text.includes(`'${name}'`)) {
        found.add(name)
        left.delete(name)
      }
  }
  return found
}

const pythonFiles = async (path: string): Promise<readonly string[]> => {
  const stats = await stat(path).catch(() => undefined)
  if (stats?.isDirectory() !== true) return stats === undefined ? [] : [path]
  const names = await readdir(path, { recursive: true }).catch(() => [])
  return names.filter((name) => name.endsWith('.py')).map((name) => join(path, name))
}

const readText = async (file: string): Promise<string> => {
  const stats = await stat(file).catch(() => undefined)
  if (stats?.isFile() !== true || stats.size > LARGEST_BYTES) return ''
  return readFile(file, 'utf8').catch(() => '')
}
