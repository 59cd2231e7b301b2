import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { findReferences } from '../../shared/manifest/interpolate.ts'
import { checkAddress } from '../../shared/sources/address-policy.ts'
import type { AddressPolicy } from '../../shared/sources/address-policy.ts'

/** The address once its secret is filled in; null without one, or while the secret is missing (which the plan tells). */
export const usableWebhook = (webhook: string | undefined): string | null =>
  webhook === undefined || findReferences(webhook).names.length > 0 || !URL.canParse(webhook) ? null : webhook

/** What is wrong with the address. It is a secret as a whole, so that no message shows more of it than its host. */
export const checkWebhook = (webhook: string | undefined, policy: AddressPolicy): readonly Problem[] => {
  if (webhook === undefined || findReferences(webhook).names.length > 0) return []
  try {
    if (!URL.canParse(webhook))
      throw new AgentError('bad_request', 'notify.webhook is no address once its secret is filled in', {
        hint: 'Set the secret to the whole https address.',
      })
    checkAddress(new URL(webhook), policy)
    return []
  } catch (error) {
    return [problemFrom(error, 'notify')]
  }
}
