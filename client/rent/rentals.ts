import { randomBytes } from 'node:crypto'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AgentError } from '../../shared/contract/errors.ts'
import { RENTERS } from '../../shared/providers/places.ts'
import type { Environment } from '../command.ts'
import type { RentedBox } from '../context/contexts.ts'
import { readContexts } from '../context/contexts.ts'
import { errnoOf } from '../exit.ts'
import { configFolder, readJsonFile, writePrivateFile } from '../private-file.ts'

/**
 * What this machine rented, one file a box, written before the provider is asked: whatever happens to this program
 * after that, the label in it finds the box again. Holds no secret.
 */
export const Rental = z.object({
  /** The box's mark at the provider, and the name of this file. */
  label: z.string(),
  provider: z.enum(RENTERS),
  /** Null until the provider told it. */
  id: z.string().nullable(),
  /** The context it was paired as; null before. */
  context: z.string().nullable(),
  manifest: z.string(),
  createdAt: z.string(),
  usdPerHour: z.number().nullable(),
  /** The `up` that works on it now; null when it is done. */
  pid: z.number().nullable(),
  /** Limits of its manifest; null: none. `notify`: nobody but the user stops it. */
  maxCostUsd: z.number().nullable(),
  maxHours: z.number().nullable(),
  onLimit: z.enum(['stop', 'notify']),
  /** When `down` saw every checkpoint stored and stopped it; null while it may have made more. */
  syncedAt: z.string().nullable(),
  /** What `down` stopped for its final sync: it stays stopped on the box until somebody starts it again. */
  stoppedProcesses: z.array(z.string()).default([]),
})
export type Rental = z.infer<typeof Rental>

const PREFIX = 'gpu-agent-'

/** A label that nobody has: `gpu-agent-comfyui-video-1a2b3c`. */
export const newLabel = (manifest: string): string =>
  `${PREFIX}${manifest.slice(0, 100)}-${randomBytes(3).toString('hex')}`

/** True for a box that some agentctl rented, here or elsewhere. */
export const isOurLabel = (label: string | null): boolean => label?.startsWith(PREFIX) === true

const folderOf = (environment: Environment): string => join(configFolder(environment), 'rentals')
const fileOf = (label: string, environment: Environment): string =>
  join(folderOf(environment), `${label}.json`)

/** @throws AgentError io_error where a record cannot be read: a box may hide behind it */
export const readRentals = async (environment: Environment): Promise<readonly Rental[]> => {
  const folder = folderOf(environment)
  const names = await readdir(folder).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  })
  const files = names.filter((name) => name.endsWith('.json') && !name.startsWith('.'))
  const found = await Promise.all(
    files.toSorted().map(async (name) => {
      const value = await readJsonFile(join(folder, name))
      if (value === undefined) return []
      const parsed = Rental.safeParse(value)
      if (parsed.success) return [parsed.data]
      throw new AgentError('io_error', `${join(folder, name)} is not the record of a rented box`, {
        hint: `Look at the provider’s page for a box called ${name.replace(/\.json$/, '')}, then remove the file.`,
      })
    }),
  )
  return found.flat()
}

export const writeRental = (rental: Rental, environment: Environment): Promise<void> =>
  writePrivateFile(fileOf(rental.label, environment), `${JSON.stringify(rental, undefined, 2)}\n`)

export const forgetRental = (label: string, environment: Environment): Promise<void> =>
  rm(fileOf(label, environment), { force: true })

/** The context of a rented box on this machine; null where it has none. */
export const contextOf = async (box: RentedBox, environment: Environment): Promise<string | null> => {
  const { contexts } = await readContexts(environment)
  const found = Object.entries(contexts).find(
    ([, { rental }]) => rental?.id === box.id && rental.provider === box.provider,
  )
  return found?.[0] ?? null
}

/** True while the `up` that made it is at work. */
export const isBeingMade = ({ pid }: Rental): boolean => {
  if (pid === null || pid === process.pid) return pid !== null
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // Another user's process is a process too.
    return errnoOf(error) === 'EPERM'
  }
}
