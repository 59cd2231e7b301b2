import type { StatusRecord } from '../../shared/contract/records.ts'
import { EXIT } from '../../shared/contract/errors.ts'
import type { Call, Command } from '../command.ts'
import { flagOption, followUntilInterrupted } from '../command.ts'
import type { PullRow } from '../pull/pulls-file.ts'
import { readPulls } from '../pull/pulls-file.ts'
import { sleep } from '../wait.ts'

const WATCH_EVERY_MS = 2_000

export const status: Command = {
  name: 'status',
  group: 'The box',
  summary: 'the whole box on one screen',
  example: 'agentctl status --check && echo healthy',
  options: [
    { flags: '--watch', summary: 'show it again every two seconds' },
    { flags: '--check', summary: 'exit 1 unless everything is healthy and no watched pull is late' },
  ],
  run: async (call) => {
    if (flagOption(call, 'watch')) return await followUntilInterrupted(call, () => watch(call))
    const { record, pulls } = await showOnce(call, false)
    const isFine = record.healthy && !pulls.some(({ late }) => late)
    return isFine || !flagOption(call, 'check') ? EXIT.done : EXIT.failed
  },
}

const watch = async (call: Call): Promise<never> => {
  for (;;) {
    await showOnce(call, true)
    await sleep(WATCH_EVERY_MS, call.longSignal)
  }
}

const showOnce = async (
  call: Call,
  onCleanScreen: boolean,
): Promise<{ record: StatusRecord; pulls: readonly PullRow[] }> => {
  const api = await call.api()
  // What draws the screen is loaded while the agent works out its answer.
  const [record, pulls, { statusLines }] = await Promise.all([
    api.status(),
    readPulls(call.environment, api.label),
    import('../output/status-screen.ts'),
  ])
  if (onCleanScreen) call.output.clear()
  if (call.output.json) call.output.document({ ...record, pulls })
  else call.output.lines(statusLines(record, pulls))
  return { record, pulls }
}
