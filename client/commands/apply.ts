import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { RunRecord } from '../../shared/contract/records.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import type { Call, Command } from '../command.ts'
import { argument, flagOption, listOption } from '../command.ts'
import { asAgentError } from '../exit.ts'
import { followRun, runFailure } from '../follow-run.ts'
import { readManifestText } from '../manifest-text.ts'
import { showPlan } from '../output/plan-screen.ts'
import { stateText } from '../output/rows.ts'

export const apply: Command = {
  name: 'apply',
  group: 'Manifests and runs',
  summary: 'bring the box to the manifest, following progress; safe to repeat',
  example: 'agentctl apply box.yaml',
  arguments: [{ name: 'manifest', summary: 'the YAML file that says what the box should be' }],
  options: [
    { flags: '-d, --detach', summary: 'return as soon as the run has begun' },
    {
      flags: '--allow-missing <subject...>',
      summary: 'do without these, where the plan has an error about them; the run is degraded then',
    },
  ],
  run: async (call) => {
    const { output } = call
    const manifest = await readManifestText(argument(call, 0))
    const api = await call.api()
    // Events after this one belong to the run; what the stream tells before the answer is not lost.
    const { events } = await api.events({ limit: 1 })
    const allowMissing = listOption(call, 'allowMissing')
    const { run, joined, plan } = await api.startRun({ ...manifest, allowMissing })
    if (plan !== null) {
      showPlan(plan, output)
      if (!output.json) output.problems(plan.problems)
    }
    output.note(`run ${run.id} ${joined ? 'was under way already; following it' : 'has begun'}`)
    if (flagOption(call, 'detach')) {
      if (output.json) output.document({ run })
      output.line(`run ${run.id} goes on; agentctl run show ${run.id} shows it`)
      return EXIT.done
    }
    const ended = await followRun(run, {
      api,
      output,
      signal: call.longSignal,
      after: events.at(-1)?.id,
      ...(plan === null ? {} : { told: plan.problems }),
    }).catch((error: unknown) => {
      throw explainDetached(error, { run, call })
    })
    return showEnd(ended, call)
  },
}

/** Leaving is not cancelling: says that the run goes on, and how to stop it. */
const explainDetached = (error: unknown, { run, call }: { run: RunRecord; call: Call }): AgentError => {
  const known = asAgentError(error)
  if (!call.longSignal.aborted) return known
  const why = known.code === 'interrupted' ? 'detached' : known.message
  return new AgentError(known.code, `${why}; run ${run.id} goes on`, {
    cause: error,
    hint: `agentctl run cancel ${run.id} stops it; apply the same manifest again to follow it.`,
  })
}

const showEnd = (run: RunRecord, { output }: Call): number => {
  const failure = runFailure(run)
  if (output.json) {
    output.document({ run })
    return failure === undefined ? EXIT.done : EXIT.failed
  }
  if (failure !== undefined) throw failure
  output.problems(run.problems)
  const tookMs = run.endedAt === null ? 0 : Date.parse(run.endedAt) - Date.parse(run.startedAt)
  output.line(stateText(run.state), ` ${run.manifest.name} (run ${run.id}) in ${formatDuration(tookMs)}`)
  return EXIT.done
}
