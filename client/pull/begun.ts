import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Checkpoint } from './checkpoint.ts'
import { checkCheckpoint } from './checkpoint.ts'
import { joinInside } from './safe-path.ts'

const FILE = 'checkpoint.json'

type Begun = { readonly box: string; readonly checkpoint: Checkpoint }

/** Notes what a pull brings, beside what has arrived of it: without the box nobody else could tell. */
export const writeBegun = (partial: string, begun: Begun): Promise<void> =>
  writeFile(join(partial, FILE), `${JSON.stringify(begun)}\n`, { mode: 0o644 })

/**
 * The checkpoint of a pull from this box that was broken off in `to`; for `latest` the last one of them.
 * @throws AgentError unsafe_path
 */
export const readBegun = async (
  request: { readonly name: string; readonly sync: string | undefined; readonly to: string },
  box: string,
): Promise<Checkpoint | undefined> => {
  const { name, sync, to } = request
  const partials =
    name === 'latest' ? await newestFirst(await partialsIn(to)) : [`${joinInside(to, name)}.partial`]
  for (const partial of partials) {
    const begun = await read(join(partial, FILE))
    if (begun?.box === box && (sync === undefined || begun.checkpoint.sync === sync)) return begun.checkpoint
  }
  return undefined
}

const partialsIn = async (to: string): Promise<string[]> =>
  (await readdir(to).catch((): string[] => []))
    .filter((name) => name.endsWith('.partial'))
    .map((name) => join(to, name))

const newestFirst = async (partials: readonly string[]): Promise<string[]> => {
  const times = await Promise.all(
    partials.map(async (path) => ({
      path,
      atMs: (await stat(join(path, FILE)).catch(() => undefined))?.mtimeMs ?? 0,
    })),
  )
  return times.sort((a, b) => b.atMs - a.atMs).map(({ path }) => path)
}

const read = async (path: string): Promise<Begun | undefined> => {
  try {
    const begun = JSON.parse(await readFile(path, 'utf8')) as Begun
    checkCheckpoint(begun.checkpoint)
    return begun
  } catch {
    // None, or cut off by a crash: then only the box can tell.
    return undefined
  }
}
