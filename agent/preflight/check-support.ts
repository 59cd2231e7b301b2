import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'

/**
 * Parts of the manifest that this version understands but does not carry out. Nothing is left out silently: what the
 * run would lack without it is an error, what it would merely not watch is a warning.
 */
export const checkSupport = (manifest: Manifest): readonly Problem[] => [
  ...(manifest.budget
    ? [missing('budget', 'warning', 'the budget is not enforced by this version: the box is not stopped')]
    : []),
  ...(manifest.notify ? [missing('notify', 'warning', 'the webhook is not called by this version')] : []),
]

const missing = (subject: string, severity: Problem['severity'], message: string, hint?: string): Problem =>
  problemFrom(
    new AgentError('not_supported', message, {
      hint: hint ?? 'Watch it yourself, or wait for a version that does.',
    }),
    subject,
    severity,
  )
