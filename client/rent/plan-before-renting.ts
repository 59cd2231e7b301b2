import { AgentError } from '../../shared/contract/errors.ts'
import type { PlanRecord } from '../../shared/contract/records.ts'
import { ASSUMED_BYTES_PER_SECOND } from '../../shared/preflight/estimate.ts'
import type { ManifestText } from '../api.ts'
import type { Call } from '../command.ts'
import { planLocally } from '../plan/plan-locally.ts'

/**
 * Incident A1: what can be known without a box is known before one is paid for: secrets that are missing or that the
 * hub refuses, gated files without access, addresses that lead nowhere, each with the files that need them.
 * @throws AgentError plan_has_errors with every problem, invalid_manifest
 */
export const planBeforeRenting = async (text: ManifestText, call: Call): Promise<PlanRecord> => {
  const plan = await planLocally(text, {
    environment: call.environment,
    signal: call.longSignal,
    bytesPerSecond: ASSUMED_BYTES_PER_SECOND,
    usdPerHour: undefined,
  })
  const errors = plan.problems.filter(({ severity }) => severity === 'error').length
  if (errors === 0) return plan
  throw new AgentError(
    'plan_has_errors',
    `the plan has ${errors === 1 ? 'an error' : `${errors} errors`}; nothing was rented`,
    { problems: plan.problems, hint: 'Correct every problem that is listed, then run up again.' },
  )
}
