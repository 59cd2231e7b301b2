import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Environment } from '../command.ts'
import { configFolder, readJsonFile, writePrivateFile } from '../private-file.ts'

/** What this machine pulls from a box: kept in the config folder, shown by `status` as `pulls`. */
export type PullRow = {
  /** What was asked for: `latest`, or a checkpoint's name. */
  readonly name: string
  readonly to: string
  readonly lastSuccessAt: string | null
  readonly problem: Problem | null
  /** The checkpoint that was brought last, and its digest; null before the first success. */
  readonly checkpoint: string | null
  readonly digest: string | null
  /** How often --watch looks; null where it was pulled by hand alone. */
  readonly everySeconds: number | null
  /** A watch that did not succeed for three times its interval: it is not running, or does not get through. */
  readonly late: boolean
}

type StoredPull = Omit<PullRow, 'late'> & { readonly box: string }
/** What is not asked more often than this is not called late. */
const LEAST_LATE_MS = 600_000

const pullsFile = (environment: Environment): string => join(configFolder(environment), 'pulls.json')

/** The pulls from this box. */
export const readPulls = async (environment: Environment, box: string): Promise<PullRow[]> =>
  (await readAll(environment)).filter((pull) => pull.box === box).map(rowOf)

/** Puts a row in place of the one with the same box, name and folder; a failure keeps the last success. */
export const recordPull = async (
  environment: Environment,
  pull: Pick<PullRow, 'name' | 'to'> & { box: string } & Partial<Omit<PullRow, 'late'>>,
): Promise<void> => {
  const all = await readAll(environment)
  const isSame = (other: StoredPull): boolean =>
    other.box === pull.box && other.name === pull.name && other.to === pull.to
  const empty = { lastSuccessAt: null, problem: null, checkpoint: null, digest: null, everySeconds: null }
  const next = { ...empty, ...all.find(isSame), ...pull }
  const rows = [...all.filter((other) => !isSame(other)), next]
  await writePrivateFile(pullsFile(environment), `${JSON.stringify({ pulls: rows }, undefined, 2)}\n`)
}

/** Takes the watches of this checkpoint and folder out of the list: they are not expected any more. */
export const forgetPull = async (
  environment: Environment,
  pull: Pick<PullRow, 'name' | 'to'>,
): Promise<void> => {
  const rows = (await readAll(environment)).filter(({ name, to }) => name !== pull.name || to !== pull.to)
  await writePrivateFile(pullsFile(environment), `${JSON.stringify({ pulls: rows }, undefined, 2)}\n`)
}

const rowOf = (stored: StoredPull): PullRow => {
  const { name, to, lastSuccessAt, problem, checkpoint, digest } = stored
  // A file of an earlier version lacks it.
  const everySeconds = (stored.everySeconds as number | null | undefined) ?? null
  const ageMs = lastSuccessAt === null ? Number.POSITIVE_INFINITY : Date.now() - Date.parse(lastSuccessAt)
  const late = everySeconds !== null && ageMs > Math.max(LEAST_LATE_MS, 3000 * everySeconds)
  return { name, to, lastSuccessAt, problem, checkpoint, digest, everySeconds, late }
}

/** A file that cannot be read is no reason to hide the box: the list is then empty and is written anew. */
const readAll = async (environment: Environment): Promise<StoredPull[]> => {
  const value = await readJsonFile(pullsFile(environment)).catch(() => undefined)
  const pulls: unknown = typeof value === 'object' && value !== null && 'pulls' in value ? value.pulls : []
  return Array.isArray(pulls) ? pulls.filter(isStoredPull) : []
}

const isStoredPull = (value: unknown): value is StoredPull =>
  typeof value === 'object' &&
  value !== null &&
  ['box', 'name', 'to'].every((key) => typeof (value as Record<string, unknown>)[key] === 'string')
