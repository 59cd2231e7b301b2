import { resolve } from 'node:path'
import { AgentError, ERROR_CODES, EXIT, problemFrom } from '../../shared/contract/errors.ts'
import { formatSize, parseDuration } from '../../shared/contract/units.ts'
import type { Call, Command } from '../command.ts'
import { flagOption, followUntilInterrupted, textOption } from '../command.ts'
import { connectionError } from '../connection.ts'
import { isPassing } from '../event-stream.ts'
import { asAgentError } from '../exit.ts'
import { bold, green } from '../output/text.ts'
import type { Pulled, PullRequest } from '../pull/pull-checkpoint.ts'
import { recordPull } from '../pull/pulls-file.ts'
import { sleep } from '../wait.ts'

export const pullCheckpoint: Command = {
  name: 'pull-checkpoint',
  group: 'Checkpoints',
  summary: 'bring a complete checkpoint here, resumable and verified',
  arguments: [
    { name: 'name', summary: 'a checkpoint; by default latest, the newest complete one', optional: true },
  ],
  options: [
    { flags: '--sync <name>', summary: 'of this sync alone' },
    { flags: '--to <dir>', summary: 'the folder that gets it; by default the current one' },
    { flags: '--watch', summary: 'go on for ever, bringing each new one' },
    { flags: '--every <duration>', summary: 'how often --watch looks; by default 2m' },
  ],
  run: async (call) => {
    const request: PullRequest = {
      name: call.args[0] ?? 'latest',
      sync: textOption(call, 'sync'),
      to: resolve(textOption(call, 'to') ?? '.'),
    }
    const everyMs = everyOption(call)
    if (flagOption(call, 'watch'))
      return await followUntilInterrupted(call, () => watch(request, everyMs, call))
    show(await pullOnce(request, call), call)
    return EXIT.done
  },
}

/** A box that is away is looked for at least this often, so that a laptop that wakes goes on soon. */
const RETRY_MS = 30_000

const watch = async (request: PullRequest, everyMs: number, call: Call): Promise<number> => {
  let proven: string | undefined
  for (let round = 1; ; round += 1) {
    let pauseMs = everyMs
    try {
      const pulled = await pullOnce({ ...request, proven }, call)
      if (!pulled.unchanged || proven === undefined) show(pulled, call)
      proven = pulled.digest
    } catch (error) {
      const known = connectionError(error, call.longSignal, 'the box')
      const neverWorked = round === 1 && ERROR_CODES[known.code].exit === EXIT.notAuthenticated
      if (call.longSignal.aborted || neverWorked || known.code === 'unsafe_path') throw known
      if (isPassing(known)) pauseMs = Math.min(everyMs, RETRY_MS)
      call.output.note(`${known.message}; trying again`)
    }
    await sleep(pauseMs, call.longSignal)
  }
}

/** One pull; what came of it is kept for `status`. */
const pullOnce = async (request: PullRequest, call: Call): Promise<Pulled> => {
  const { pullCheckpoint: pull } = await import('../pull/pull-checkpoint.ts')
  const api = await call.api()
  const row = { box: api.label, name: request.name, to: request.to }
  try {
    const pulled = await pull(request, { api, output: call.output, signal: call.longSignal })
    const { name: checkpoint, digest } = pulled
    const lastSuccessAt = new Date().toISOString()
    await recordPull(call.environment, { ...row, lastSuccessAt, problem: null, checkpoint, digest })
    return pulled
  } catch (error) {
    const known = asAgentError(error)
    if (known.code !== 'interrupted')
      await recordPull(call.environment, { ...row, problem: problemFrom(known, request.name) })
    throw known
  }
}

const show = (pulled: Pulled, { output }: Call): void => {
  if (output.json) output.document({ checkpoint: pulled })
  const size = `${pulled.files} files, ${formatSize(pulled.sizeBytes)}`
  if (pulled.unchanged) output.line(green('here already'), ' ', bold(pulled.path), `: ${size}, verified`)
  else output.line(green('pulled'), ' ', bold(pulled.path), `: ${size}, verified`)
  if (pulled.previous !== null) output.line(`the version that was there is kept: ${pulled.previous}`)
}

const everyOption = (call: Call): number => {
  const every = textOption(call, 'every') ?? '2m'
  const ms = parseDuration(every)
  if (ms === undefined || ms < 1000)
    throw new AgentError('usage', `--every: ${every} is not a duration of a second or more`, {
      hint: 'Write 30s, 2m or 1h.',
    })
  return ms
}
