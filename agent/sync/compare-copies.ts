import { AgentError } from '../../shared/contract/errors.ts'
import type { Carrier, CarryContext } from './carrier.ts'
import type { KnownCopies } from './known-copies.ts'
import { readRecords, recordPath } from './unit-record.ts'

/** Two boxes meet at the newest names; reading every record each time would cost a request each. */
const RECORDS_LOOKED_AT = 16

/**
 * Looks whether the copies that are known are still whole on the remote; those that are not are forgotten, so that they
 * are made again. Where another agent's record took a copy's place, two boxes copy to one destination and would replace
 * each other's files for ever: that is refused (S40).
 * @returns the units that were forgotten
 * @throws AgentError sync_config and what the carrier throws
 */
export const compareCopies = async (
  copies: KnownCopies,
  { carrier, destination, ...context }: CarryContext & { carrier: Carrier; destination: string },
): Promise<readonly string[]> => {
  const there = await carrier.list('everything', context)
  const gone = copies.notWhole(there)
  const looked = new Set([...gone, ...copies.latest(RECORDS_LOOKED_AT)])
  const recorded = [...looked].filter((unit) => there.has(recordPath(unit)))
  const records = await readRecords(recorded, { carrier, ...context })
  for (const [unit, { digest }] of records)
    if (digest !== copies.get(unit)?.digest)
      throw new AgentError(
        'sync_config',
        `${unit} at ${destination} was replaced by somebody else, another box that copies to the same place perhaps`,
        {
          hint: 'Give each box a place of its own under “to”; what was replaced lies beside it as NAME~DIGEST.',
        },
      )
  gone.forEach(copies.forget)
  return gone
}
