import type { DownloadRow, RunRecord, SyncRow } from '../../shared/contract/records.ts'
import { isFinalRunState } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import { within } from './within.ts'

/*
 * Whether the box does anything. A graphics card at 0 % is no evidence of idleness by itself: a 100 GB download, an
 * install, a person in a terminal look the same. So everything has to agree, and what cannot be told counts as busy.
 */

/** One kind of evidence: why the box is busy, a sentence for each reason; none when it is not. A failure counts as busy. */
export type Evidence = {
  readonly name: string
  readonly busy: (signal: AbortSignal) => readonly string[] | Promise<readonly string[]>
}

/** The name of the evidence that the agent's own final sync would be. */
export const SYNC = 'sync'

const LOOK_MS = 15_000

/** Every reason why the box is not idle. */
export const gatherBusy = async (
  evidence: readonly Evidence[],
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<readonly string[]> => {
  const look = async ({ name, busy }: Evidence): Promise<readonly string[]> => {
    try {
      return await within(async (one) => busy(one), { ms: LOOK_MS, what: name, clock, signal })
    } catch (error) {
      signal.throwIfAborted()
      return [`${name} cannot be told, which counts as busy: ${errorText(error)}`]
    }
  }
  return (await Promise.all(evidence.map(look))).flat()
}

/** A run that is under way. */
export const busyRun = (run: RunRecord | undefined): readonly string[] =>
  run === undefined || isFinalRunState(run.state) ? [] : [`run ${run.id} is ${run.state}`]

/** Downloads that go on, those that wait for room or for a hub included. */
export const busyDownloads = (rows: readonly DownloadRow[]): readonly string[] =>
  rows
    .filter(({ state }) => state !== 'done' && state !== 'failed')
    .map(({ to, state }) => `download ${to} is ${state}`)

/** Copies that are made or come next. A remote that fails for long does not keep the box: its disk stays. */
export const busySyncs = (rows: readonly SyncRow[]): readonly string[] =>
  rows.flatMap(({ name, state, pending }) => {
    if (state === 'copying' || state === 'retrying') return [`sync ${name} is ${state}`]
    const fresh = pending.filter((unit) => unit.state === 'settling' || unit.state === 'queued')
    return state === 'idle' && fresh.length > 0
      ? [`sync ${name} has ${fresh.length} ${fresh.length === 1 ? 'unit' : 'units'} to copy`]
      : []
  })

/** What processes say of themselves; what they cannot tell counts as busy. */
export const busyProcesses = (
  activity: readonly { readonly name: string; readonly busy: boolean | 'unknown'; readonly why: string }[],
): readonly string[] =>
  activity
    .filter(({ busy }) => busy !== false)
    .map(
      ({ name, busy, why }) => `process ${name} ${why}${busy === 'unknown' ? ', which counts as busy' : ''}`,
    )

/** A driver that is merely asked shows some percent. */
const BUSY_PERCENT = 5

/** The load of each GPU in percent; null: it cannot be told. A box whose GPUs cannot be asked is never idle. */
export const busyGpus = (loads: readonly (number | null)[] | null): readonly string[] => {
  if (loads === null || loads.length === 0)
    return ['the GPUs cannot be asked (nvidia-smi), which counts as busy']
  return loads.flatMap((percent, index) => {
    if (percent === null) return [`the load of GPU ${index} is not told, which counts as busy`]
    return percent >= BUSY_PERCENT ? [`GPU ${index} is ${percent} % busy`] : []
  })
}
