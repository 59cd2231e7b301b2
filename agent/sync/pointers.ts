import { readdir, readFile, realpath } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { z } from 'zod'
import { stepOf } from './inspect-unit.ts'
import type { Unit } from './unit.ts'
import { POINTER_FILES } from './unit.ts'

type Named = Pick<Unit, 'name'>

/** The texts of the pointer files beside the units, by the files' paths; torn ones differ at the next look (S16). */
export const readPointers = async (
  root: string,
  units: readonly Named[],
): Promise<ReadonlyMap<string, string>> => {
  const found = new Map<string, string>()
  for (const folder of foldersOf(units))
    for (const name of POINTER_FILES) {
      const path = join(folder, name)
      const text = await readFile(join(root, path), 'utf8').catch(() => '')
      if (text.trim()) found.set(path, text.trim())
    }
  return found
}

/** True when a pointer file beside the unit names it: by its name, or by its step as a plain number. */
export const isPointedAt = ({ name }: Named, pointers: ReadonlyMap<string, string>): boolean =>
  [...pointers].some(
    ([path, text]) =>
      dirname(path) === dirname(name) &&
      (text === basename(name) || (/^\d+$/.test(text) && Number(text) === stepOf(name))),
  )

/**
 * Units that somebody relies on by another way than their names: a pointer file or a symbolic link beside them, or the
 * trainer's own note of its best model, which it loads at the end.
 */
export const findReliedOn = async (root: string, units: readonly Named[]): Promise<ReadonlySet<string>> => {
  const pointers = await readPointers(root, units)
  const relied = new Set(units.filter((unit) => isPointedAt(unit, pointers)).map(({ name }) => name))
  const targets = await readLinks(root, units)
  for (const { name } of units) {
    if (targets.some((target) => target === name || target.startsWith(`${name}/`))) relied.add(name)
    const best = await readBest(join(root, name, 'trainer_state.json'))
    if (best !== undefined) relied.add(join(dirname(name), best))
  }
  return relied
}

const foldersOf = (units: readonly Named[]): ReadonlySet<string> =>
  new Set(['.', ...units.map(({ name }) => dirname(name))])

/** Where the symbolic links beside the units lead, relative to the root. */
const readLinks = async (root: string, units: readonly Named[]): Promise<readonly string[]> => {
  const real = await realpath(root).catch(() => root)
  const targets: string[] = []
  for (const folder of foldersOf(units))
    for (const entry of await readdir(join(root, folder), { withFileTypes: true }).catch(() => [])) {
      if (!entry.isSymbolicLink()) continue
      const target = await realpath(join(root, folder, entry.name)).catch(() => undefined)
      if (target !== undefined) targets.push(relative(real, target))
    }
  return targets
}

const TrainerState = z.object({ best_model_checkpoint: z.string() })

const readBest = async (path: string): Promise<string | undefined> => {
  try {
    return basename(TrainerState.parse(JSON.parse(await readFile(path, 'utf8'))).best_model_checkpoint)
  } catch {
    // None, torn, or without a best model.
    return undefined
  }
}
