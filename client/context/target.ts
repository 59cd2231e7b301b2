import { isAbsolute } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'

/** A way to a box, as AGENTCTL_HOST and `pair` spell it. */
export type Target = { readonly kind: 'unix'; readonly path: string }

/** @throws AgentError usage, not_supported */
export const parseTarget = (text: string): Target => {
  if (text.startsWith('unix:')) {
    const path = text.slice('unix:'.length)
    if (!isAbsolute(path))
      throw new AgentError('usage', `${text}: the path of a socket must be absolute`, {
        hint: 'Write unix:/path/agent.sock.',
      })
    return { kind: 'unix', path }
  }
  if (/^(ssh:\/\/|https:\/\/)/.test(text) || /^([^\s/@]+@)?[A-Za-z0-9.-]+(:\d+)?$/.test(text))
    throw new AgentError(
      'not_supported',
      `${text}: this agentctl reaches an agent through a unix socket only`,
      {
        hint: 'Run agentctl on the box itself, or forward its socket with ssh -L and use unix:/path/agent.sock.',
      },
    )
  throw new AgentError('usage', `${text} is not the address of a box`, {
    hint: 'Write unix:/path/agent.sock.',
  })
}

export const targetText = (target: Target): string => `unix:${target.path}`
