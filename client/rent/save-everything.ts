import { AgentError } from '../../shared/contract/errors.ts'
import type { FlushRecord } from '../../shared/contract/records.ts'
import { formatDuration, formatSize } from '../../shared/contract/units.ts'
import type { Api } from '../api.ts'
import type { Call } from '../command.ts'
import { connect } from '../connect.ts'
import { resolveBox } from '../context/resolve-box.ts'
import { asAgentError } from '../exit.ts'

/**
 * Brings every checkpoint of a box to its remote and sees that it is there: once while the work goes on, and once after
 * the processes were stopped, so that nothing is made in between.
 * @returns the processes that were stopped
 * @throws AgentError not_synced when something would be lost; the signal's reason
 */
export const saveEverything = async (
  context: string,
  { call, deadlineMs }: { readonly call: Call; readonly deadlineMs: number },
): Promise<readonly string[]> => {
  const api = connect(await resolveBox(context, call.environment), {
    environment: call.environment,
    signal: call.longSignal,
    timeoutMs: undefined,
    onAgentVersion: () => undefined,
  })
  call.output.note(`final sync, ${formatDuration(deadlineMs)} at most`)
  await flush(api, { call, deadlineMs, stopped: [] })
  const stopped = await stopProcesses(api, call)
  if (stopped.length > 0) await flush(api, { call, deadlineMs, stopped })
  return stopped
}

const flush = async (
  api: Api,
  {
    call,
    deadlineMs,
    stopped,
  }: { readonly call: Call; readonly deadlineMs: number; readonly stopped: readonly string[] },
): Promise<void> => {
  const notSynced = (why: string): AgentError =>
    new AgentError(
      'not_synced',
      `${stopped.length === 0 ? 'nothing was stopped' : `the box runs on, without ${stopped.join(', ')}`}, since data would be lost: ${why}`,
    )
  let record: FlushRecord
  try {
    record = await api.flushSync(Math.ceil(deadlineMs / 1000))
  } catch (error) {
    call.longSignal.throwIfAborted()
    throw notSynced(`its agent does not say what is synced: ${asAgentError(error).message}`)
  }
  const lost = record.left.filter(({ isCheckpoint }) => isCheckpoint)
  const [problem] = record.problems
  if (lost.length > 0) {
    const [first] = lost
    const size = formatSize(lost.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0))
    const named = lost.map(({ unit }) => unit).slice(0, 4)
    throw notSynced(
      `${lost.length === 1 ? '1 checkpoint' : `${lost.length} checkpoints`} (${size}) on no remote: ${named.join(', ')}; ${first?.reason ?? ''}`,
    )
  }
  if (problem !== undefined) throw notSynced(problem.message)
  const others = record.left.length
  if (others > 0) call.output.note(`${others} files that are no checkpoints are on no remote`)
  call.output.note(
    record.stored.length === 0
      ? 'every checkpoint was stored already'
      : `${record.stored.length} units stored and verified`,
  )
}

const ALIVE = new Set(['starting', 'ready', 'running', 'unresponsive', 'waiting'])

/** The processes that were alive. One that does not stop is told; the machine's own stop ends it. */
const stopProcesses = async (api: Api, call: Call): Promise<readonly string[]> => {
  const { processes } = await api.processes()
  const alive = processes.filter(({ state }) => ALIVE.has(state))
  for (const { name } of alive) {
    call.output.note(`stopping ${name}`)
    await api.actOn(name, 'stop').catch((error: unknown) => {
      call.longSignal.throwIfAborted()
      call.output.note(asAgentError(error).message)
    })
  }
  return alive.map(({ name }) => name)
}
