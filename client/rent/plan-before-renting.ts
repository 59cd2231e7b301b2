import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { listReferences } from '../../shared/manifest/resolve-manifest-secrets.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { Call } from '../command.ts'
import { findSecret } from './find-secret.ts'

/** What the downloads come to, and what is worth a warning. */
export type LocalPlan = { readonly downloadBytes: number; readonly problems: readonly Problem[] }

/**
 * Incident A1: what can be known without a box is known before one is paid for.
 * @throws AgentError plan_has_errors with every problem
 */
export const planBeforeRenting = (manifest: Manifest, call: Call): Promise<LocalPlan> => {
  const references = listReferences(manifest)
  const names = new Set([...manifest.secrets.required, ...references.map(({ name }) => name)])
  const problems = [...names]
    .filter((name) => findSecret(name, call.environment) === undefined)
    .map((name): Problem => ({
      code: 'secret_missing',
      severity: 'error',
      subject: name,
      message: `this machine does not have ${name}`,
      hint: `export ${name}=…; it is given to the box when it is made.`,
    }))
  if (problems.length > 0)
    throw new AgentError('plan_has_errors', 'the plan has errors; nothing was rented', { problems })
  return Promise.resolve({ downloadBytes: 0, problems: [] })
}
