import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Carrier, CarryContext } from './carrier.ts'
import type { SealedUnit } from './seal-unit.ts'
import { OWN_FOLDER } from './unit.ts'

/** What lies beside the files as `.gpu-agent/<unit>.json`: written last, so where it is, the unit is whole. */
const UnitRecord = z.object({
  version: z.literal(1),
  unit: z.string(),
  digest: z.string(),
  completeAt: z.string(),
  files: z.array(z.object({ path: z.string(), sizeBytes: z.number(), sha256: z.string() })),
})
export type UnitRecord = z.infer<typeof UnitRecord>

export type RecordContext = CarryContext & {
  readonly carrier: Carrier
  /** A folder of the agent's own for the texts. */
  readonly temporaryFolder: string
}

/** Where the record of a unit lies, relative to the destination. */
export const recordPath = (unit: string): string => `${OWN_FOLDER}/${unit}.json`

/** The record of a unit as it is sealed. */
export const recordOf = ({ name, digest, completeAt, files }: SealedUnit): UnitRecord => ({
  version: 1,
  unit: name,
  digest,
  completeAt,
  files: files.map(({ path, sizeBytes, sha256 }) => ({ path, sizeBytes, sha256 })),
})

/** The records of units that have one, by unit; one that was cut off counts as none. @throws what the carrier throws */
export const readRecords = async (
  units: readonly string[],
  { carrier, signal }: CarryContext & { readonly carrier: Carrier },
): Promise<ReadonlyMap<string, UnitRecord>> => {
  const texts = await carrier.read(units.map(recordPath), { signal })
  return new Map(
    units.flatMap((unit): [string, UnitRecord][] => {
      const record = parseRecord(texts.get(recordPath(unit)) ?? '')
      return record ? [[unit, record]] : []
    }),
  )
}

/**
 * Writes records and reads them back: only then the units count as stored.
 * @throws AgentError sync_failed when one reads back differently, and what the carrier throws
 */
export const writeRecords = async (records: readonly UnitRecord[], context: RecordContext): Promise<void> => {
  if (records.length === 0) return
  const texts = new Map(
    records.map((record) => [recordPath(record.unit), `${JSON.stringify(record, undefined, 1)}\n`]),
  )
  await writeTexts(texts, context)
}

/**
 * Says in the place of a unit's record that its files are being replaced: until the new record is there, what lies
 * there is neither the old unit nor the new one.
 * @throws AgentError sync_failed, and what the carrier throws
 */
export const voidRecords = async (units: readonly string[], context: RecordContext): Promise<void> => {
  if (units.length === 0) return
  const text = (unit: string): string => `${JSON.stringify({ version: 1, unit, state: 'being replaced' })}\n`
  await writeTexts(new Map(units.map((unit) => [recordPath(unit), text(unit)])), context)
}

const writeTexts = async (texts: ReadonlyMap<string, string>, context: RecordContext): Promise<void> => {
  const { carrier, signal } = context
  const folder = await mkdtemp(join(context.temporaryFolder, 'record-'))
  try {
    const files = [...texts].map(([path, text], index) => ({
      from: join(folder, `${index}.json`),
      path,
      sizeBytes: Buffer.byteLength(text),
      text,
    }))
    for (const { from, text } of files) await writeFile(from, text)
    await carrier.put(files, { signal, last: new Set(), isNew: false })
    const back = await carrier.read([...texts.keys()], { signal })
    for (const [path, text] of texts)
      if (back.get(path) !== text)
        throw new AgentError('sync_failed', `the record ${path} reads back differently from the remote`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const parseRecord = (text: string): UnitRecord | undefined => {
  try {
    return UnitRecord.parse(JSON.parse(text))
  } catch {
    // Cut off by a killed copy: without a record the unit counts as not stored.
    return undefined
  }
}
