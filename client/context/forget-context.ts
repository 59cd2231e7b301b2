import type { Call } from '../command.ts'
import type { StoredContext } from './contexts.ts'
import { readContexts, writeContexts } from './contexts.ts'
import { parseTarget } from './target.ts'

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
  await forgetWay(found.target, Object.values(contexts), call)
}

/** The connection goes with its context, the host key with the last context of its host. */
const forgetWay = async (
  text: string,
  others: readonly StoredContext[],
  call: Pick<Call, 'environment' | 'signal'>,
): Promise<void> => {
  const target = parseTarget(text)
  if (target.kind !== 'ssh' || others.some((other) => other.target === text)) return
  const { forgetTunnel } = await import('../tunnel/forget-tunnel.ts')
  const rest = others.map((other) => parseTarget(other.target))
  await forgetTunnel({ target, others: rest.filter((other) => other.kind === 'ssh') }, call)
}
