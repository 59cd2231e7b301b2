import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { AgentError, EXIT, problemFrom } from '../../shared/contract/errors.ts'
import { formatCount, formatSize, parseDuration } from '../../shared/contract/units.ts'
import { makeFolders } from '../../shared/make-folders.ts'
import type { Call, Command } from '../command.ts'
import { flagOption, followUntilInterrupted, textOption } from '../command.ts'
import { findContext, readContexts } from '../context/contexts.ts'
import { asAgentError } from '../exit.ts'
import { bold, green } from '../output/text.ts'
import type { Pulled, PullRequest } from '../pull/pull-checkpoint.ts'
import { forgetPull, recordPull } from '../pull/pulls-file.ts'
import { watchCheckpoint } from '../pull/watch-checkpoint.ts'

export const pullCheckpoint: Command = {
  name: 'pull-checkpoint',
  group: 'Checkpoints',
  summary: 'bring a complete checkpoint here, resumable and verified',
  example: 'agentctl pull-checkpoint latest --to runs --watch --every 2m',
  arguments: [
    {
      name: 'name',
      summary: 'a checkpoint; by default latest, the newest complete one',
      optional: true,
      names: 'checkpoints',
    },
  ],
  options: [
    { flags: '--sync <name>', summary: 'of this sync alone' },
    { flags: '--to <dir>', summary: 'the folder that gets it; by default the current one' },
    { flags: '--watch', summary: 'go on for ever, bringing the newest whenever there is a new one' },
    { flags: '--every <duration>', summary: 'how often --watch looks; by default 2m' },
    { flags: '--install-service', summary: 'have this machine do --watch from every login on' },
    { flags: '--uninstall-service', summary: 'end that and remove it' },
  ],
  run: async (call) => {
    const request: PullRequest = {
      name: nameOf(call.args[0] ?? 'latest'),
      sync: textOption(call, 'sync'),
      to: resolve(textOption(call, 'to') ?? '.'),
    }
    const { every, everyMs } = everyOption(call)
    if (textOption(call, 'every') !== undefined && !goesOn(call))
      throw new AgentError('usage', '--every says how often --watch looks, and there is no --watch', {
        hint: 'Add --watch, or leave --every out.',
      })
    if (flagOption(call, 'installService') && flagOption(call, 'uninstallService'))
      throw new AgentError('usage', '--install-service and --uninstall-service are given both', {
        hint: 'Give one of them.',
      })
    if (flagOption(call, 'installService')) return await install(request, { call, every })
    if (flagOption(call, 'uninstallService')) return await uninstall(request, { call, every })
    await checkFolder(request.to)
    if (flagOption(call, 'watch'))
      return await followUntilInterrupted(call, () => watch(request, { call, everyMs }))
    show(await pullOnce(request, { call }), call)
    return EXIT.done
  },
}

/** True for a pull that does not end by itself, here or as a service. */
const goesOn = (call: Call): boolean =>
  ['watch', 'installService', 'uninstallService'].some((name) => flagOption(call, name))

/** @throws AgentError usage where something else than a folder is there */
const checkFolder = async (path: string): Promise<void> => {
  const stats = await stat(path).catch(() => undefined)
  if (stats && !stats.isDirectory())
    throw new AgentError('usage', `--to: ${path} is not a folder`, {
      hint: 'Name a folder; it is made where it is missing.',
    })
}

/** @throws AgentError usage */
const nameOf = (name: string): string => {
  if (name.trim() === '')
    throw new AgentError('usage', 'the name of the checkpoint is empty', {
      hint: 'Leave it out for the newest.',
    })
  return name
}

const watch = async (
  request: PullRequest,
  { call, everyMs }: { call: Call; everyMs: number },
): Promise<never> => {
  try {
    return await watchCheckpoint({
      everyMs,
      signal: call.longSignal,
      pull: (proven) => pullOnce({ ...request, proven }, { call, everyMs }),
      onPulled: (pulled) => show(pulled, call),
      onTrouble: (error) => call.output.note(`${error.message}; trying again`),
    })
  } finally {
    // Ctrl-C says that nobody expects it any more; a service that is ended by SIGTERM is missed, and `status` says so.
    if (call.signal.aborted && asAgentError(call.signal.reason).cause === 'SIGINT')
      await expectNoMore(request, call)
  }
}

/** Its last success stays to be seen, and it is never late. */
const expectNoMore = async ({ name, to }: PullRequest, call: Call): Promise<void> => {
  const box = (await call.api()).label
  await recordPull(call.environment, { box, name, to, everySeconds: null })
}

const install = async (
  request: PullRequest,
  { call, every }: { call: Call; every: string },
): Promise<number> => {
  const { pullService } = await import('../pull/pull-service.ts')
  const { installService } = await import('../service/install-service.ts')
  // One that is not known would be looked for in vain at every login.
  if (call.context !== undefined) findContext(await readContexts(call.environment), call.context)
  const service = await pullService(request, { call, every })
  await makeFolders(request.to)
  const installed = await installService(service, call.environment)
  if (call.output.json) call.output.document({ service: installed })
  call.output.line(green('installed'), ' ', bold(installed.path))
  call.output.line('see how it does: agentctl status')
  return EXIT.done
}

const uninstall = async (
  request: PullRequest,
  { call, every }: { call: Call; every: string },
): Promise<number> => {
  const { pullService } = await import('../pull/pull-service.ts')
  const { uninstallService } = await import('../service/install-service.ts')
  const service = await pullService(request, { call, every })
  const forget = (): Promise<void> => forgetPull(call.environment, { name: request.name, to: request.to })
  const removed = await uninstallService(service, call.environment).catch(async (error: unknown) => {
    await forget()
    throw error
  })
  if (removed === undefined)
    throw new AgentError('not_found', `there is no service that pulls ${request.name} to ${request.to}`, {
      hint: 'Give the same NAME, --sync, --to and --context as for --install-service.',
    })
  await forget()
  if (call.output.json) call.output.document({ service: removed })
  call.output.line('removed ', bold(removed.path))
  return EXIT.done
}

/** One pull; what came of it is kept for `status`. */
const pullOnce = async (
  request: PullRequest,
  { call, everyMs }: { call: Call; everyMs?: number },
): Promise<Pulled> => {
  const { pullCheckpoint: pull } = await import('../pull/pull-checkpoint.ts')
  const api = await call.api()
  const row = {
    box: api.label,
    name: request.name,
    to: request.to,
    ...(everyMs === undefined ? {} : { everySeconds: everyMs / 1000 }),
  }
  try {
    const pulled = await pull(request, {
      api,
      output: call.output,
      signal: call.longSignal,
      environment: call.environment,
    })
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
  const size = `${formatCount(pulled.files, 'file')}, ${formatSize(pulled.sizeBytes)}`
  if (pulled.unchanged) output.line(green('here already'), ' ', bold(pulled.path), `: ${size}, verified`)
  else output.line(green('pulled'), ' ', bold(pulled.path), `: ${size}, verified`)
  if (pulled.previous !== null) output.line(`the version that was there is kept: ${pulled.previous}`)
}

const everyOption = (call: Call): { every: string; everyMs: number } => {
  const every = textOption(call, 'every') ?? '2m'
  const ms = parseDuration(every)
  if (ms === undefined || ms < 1000)
    throw new AgentError('usage', `--every: ${every} is not a duration of a second or more`, {
      hint: 'Write 30s, 2m or 1h.',
    })
  return { every, everyMs: ms }
}
