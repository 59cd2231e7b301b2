import type { Call } from '../command.ts'
import type { StoredContext } from './contexts.ts'
import { readContexts, targetOf, writeContexts } from './contexts.ts'

/** Takes a context away, with its connection and, when it was the last of its host, the host's key. */
export const forgetContext = async (
  name: string,
  call: Pick<Call, 'environment' | 'signal'>,
): Promise<void> => {
  const stored = await readContexts(call.environment)
  const found = stored.contexts[name]
  if (found === undefined) return
  const contexts = Object.fromEntries(Object.entries(stored.contexts).filter(([other]) => other !== name))
  const current = stored.current === name ? null : stored.current
  await writeContexts(call.environment, { current, contexts })
  await forgetWay(found, Object.values(contexts), call)
}

/** The connection goes with its context, the host key with the last context of its host. */
const forgetWay = async (
  forgotten: StoredContext,
  others: readonly StoredContext[],
  call: Pick<Call, 'environment' | 'signal'>,
): Promise<void> => {
  const target = targetOf(forgotten)
  if (target.kind !== 'ssh' || others.some((other) => other.target === forgotten.target)) return
  const { forgetTunnel } = await import('../tunnel/forget-tunnel.ts')
  const rest = others.map(targetOf)
  await forgetTunnel({ target, others: rest.filter((other) => other.kind === 'ssh') }, call)
}
