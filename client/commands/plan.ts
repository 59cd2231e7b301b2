import type { PlanRecord } from '../../shared/contract/records.ts'
import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import { parseSpeed } from '../../shared/contract/units.ts'
import { ASSUMED_BYTES_PER_SECOND, estimateDownloads, rateOf } from '../../shared/preflight/estimate.ts'
import type { ManifestText } from '../api.ts'
import type { Call, Command } from '../command.ts'
import { argument, flagOption, textOption } from '../command.ts'
import { readManifestText } from '../manifest-text.ts'
import { showPlan } from '../output/plan-screen.ts'

export const plan: Command = {
  name: 'plan',
  group: 'Manifests and runs',
  summary: 'every problem and every change, nothing done',
  example: 'agentctl plan box.yaml --local',
  arguments: [{ name: 'manifest', summary: 'the YAML file that says what the box should be' }],
  options: [
    {
      flags: '--local',
      summary: 'without a box: tokens, licences, sources and sizes, as this machine can tell',
    },
    {
      flags: '--speed <speed>',
      summary: 'the line that the estimate assumes: 500Mbit/s (1Gbit/s by default)',
    },
    { flags: '--rate <usd>', summary: 'US dollars an hour; by default what the manifest says' },
  ],
  run: async (call) => {
    const rates = { bytesPerSecond: speedOf(call), usdPerHour: rateOption(call) }
    const manifest = await readManifestText(argument(call, 0))
    const record = flagOption(call, 'local')
      ? await planHere(manifest, { call, rates })
      : await estimateAgain(await (await call.api()).plan(manifest), { manifest, rates })
    const errors = record.problems.filter((problem) => problem.severity === 'error').length
    if (call.output.json) {
      call.output.document(record)
      return errors > 0 ? EXIT.refused : EXIT.done
    }
    showPlan(record, call.output)
    if (errors > 0)
      throw new AgentError(
        'plan_has_errors',
        `the plan has ${errors === 1 ? 'an error' : `${errors} errors`}`,
        {
          problems: record.problems,
        },
      )
    call.output.problems(record.problems)
    return EXIT.done
  },
}

type Rates = { readonly bytesPerSecond: number | undefined; readonly usdPerHour: number | undefined }

const planHere = async (
  manifest: ManifestText,
  { call, rates }: { readonly call: Call; readonly rates: Rates },
): Promise<PlanRecord> => {
  const { planLocally } = await import('../plan/plan-locally.ts')
  return planLocally(manifest, {
    environment: call.environment,
    signal: call.longSignal,
    bytesPerSecond: rates.bytesPerSecond ?? ASSUMED_BYTES_PER_SECOND,
    usdPerHour: rates.usdPerHour,
  })
}

/** The box’s own estimate, unless the user knows better. */
const estimateAgain = async (
  record: PlanRecord,
  { manifest, rates }: { readonly manifest: ManifestText; readonly rates: Rates },
): Promise<PlanRecord> => {
  if (rates.bytesPerSecond === undefined && rates.usdPerHour === undefined) return record
  const { parseManifest } = await import('../../shared/manifest/parse-manifest.ts')
  const parsed = parseManifest(manifest.manifest, { file: manifest.file })
  return {
    ...record,
    estimate: estimateDownloads(record.estimate.downloadBytes, {
      bytesPerSecond: rates.bytesPerSecond ?? ASSUMED_BYTES_PER_SECOND,
      usdPerHour: rates.usdPerHour ?? rateOf(parsed.manifest),
    }),
  }
}

const speedOf = (call: Call): number | undefined => {
  const text = textOption(call, 'speed')
  if (text === undefined) return undefined
  const bytesPerSecond = parseSpeed(text)
  if (bytesPerSecond !== undefined && bytesPerSecond > 0) return bytesPerSecond
  throw new AgentError('usage', `--speed: ${text} is not a speed`, {
    hint: 'Write 500Mbit/s, 1Gbit/s or 60MB/s.',
  })
}

const rateOption = (call: Call): number | undefined => {
  const text = textOption(call, 'rate')
  if (text === undefined) return undefined
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text)
  throw new AgentError('usage', `--rate: ${text} is not a price`, {
    hint: 'Write US dollars an hour, like 0.60.',
  })
}
