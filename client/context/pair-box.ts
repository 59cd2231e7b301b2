import type { Call } from '../command.ts'
import { connect } from '../connect.ts'
import { asAgentError } from '../exit.ts'
import type { RentedBox } from './contexts.ts'
import { readContexts, storedContext, writeContexts } from './contexts.ts'
import type { PairedBox } from '../tunnel/pair-over-ssh.ts'
import type { SshTarget, Target } from './target.ts'
import { targetText } from './target.ts'

/** A context that was made, and what its box calls itself. */
export type MadeContext = {
  readonly name: string
  readonly target: string
  readonly agentId: string
  readonly hostname: string
}

type Known = {
  readonly target: Target
  readonly token: string
  readonly name: string | undefined
  readonly rental?: RentedBox
}

/** Proves that the token opens the box, then stores it as the current context. @throws AgentError */
export const storeContext = async (
  { target, token, name, rental: known }: Known,
  call: Call,
): Promise<MadeContext> => {
  const api = connect({ target, token }, { ...call, onAgentVersion: () => undefined })
  const { agent, host } = await api.status()
  const context = contextName(name ?? host.hostname)
  const stored = await readContexts(call.environment)
  const before = stored.contexts[context]
  // Pairing a rented box again does not make it another box.
  const rental = known ?? (before?.agentId === agent.id ? before.rental : undefined)
  await writeContexts(call.environment, {
    current: context,
    contexts: {
      ...stored.contexts,
      [context]: storedContext(target, {
        token,
        agentId: agent.id,
        ...(rental === undefined ? {} : { rental }),
      }),
    },
  })
  return { name: context, target: targetText(target), agentId: agent.id, hostname: host.hostname }
}

/**
 * Pairs through ssh: whoever may log in as the agent's user gets a token. Pairing again makes a new token and revokes
 * the one that this machine had before.
 * @throws AgentError unreachable, unauthorized, program_missing, usage
 */
export const pairSsh = async (
  asked: {
    readonly target: SshTarget
    readonly name: string | undefined
    readonly agentd: string
    readonly rental?: RentedBox
  },
  call: Call,
): Promise<MadeContext> => {
  const [{ pairOverSsh }, { tunnelPlaces }] = await Promise.all([
    import('../tunnel/pair-over-ssh.ts'),
    import('../tunnel/places.ts'),
  ])
  const { environment, signal } = call
  const places = tunnelPlaces(asked.target, environment)
  const paired = await pairOverSsh(asked.agentd, { target: asked.target, places, environment, signal })
  const before = await readContexts(environment)
  const known = Object.entries(before.contexts).find(([, one]) => one.target === targetText(paired.target))
  const { made, target } = await storeReachable(
    {
      ...paired,
      name: asked.name ?? known?.[0],
      ...(asked.rental === undefined ? {} : { rental: asked.rental }),
    },
    call,
  )
  const old = before.contexts[made.name]
  if (old?.agentId === made.agentId && old.target.startsWith('ssh://'))
    await revoke(old.token, { target, token: paired.token }, call)
  return made
}

/** Through the forwarded socket; where the box's sshd forwards none, one way after the other that needs no such. */
const storeReachable = async (
  { target, token, tls, ...known }: PairedBox & Pick<Known, 'name' | 'rental'>,
  call: Call,
): Promise<{ readonly made: MadeContext; readonly target: SshTarget }> => {
  const { isBridged } = await import('../tunnel/is-bridged.ts')
  const through = async (way: SshTarget) => ({
    made: await storeContext({ ...known, target: way, token }, call),
    target: way,
  })
  const others: readonly SshTarget[] = isBridged(target, call.environment)
    ? []
    : [...(tls === undefined ? [] : [{ ...target, tls }]), { ...target, isBridged: true }]
  try {
    return await through(target)
  } catch (error) {
    if (asAgentError(error).code !== 'unreachable') throw error
    for (const way of others) {
      const paired = await through(way).catch(() => undefined)
      call.signal.throwIfAborted()
      if (paired === undefined) continue
      if (way.isBridged === true) call.output.note(BRIDGED)
      return paired
    }
    throw error
  }
}

const BRIDGED =
  'the sshd of this box forwards nothing, so each connection to its agent is an ssh of its own, which is slower'

/** The new token is stored already, so one that cannot be revoked is worth a note and no failure. */
const revoke = async (
  old: string,
  box: { readonly target: Target; readonly token: string },
  call: Call,
): Promise<void> => {
  const id = old.split('.', 1)[0] ?? ''
  if (id === box.token.split('.', 1)[0]) return
  try {
    await connect(box, { ...call, onAgentVersion: () => undefined }).revokeToken(id)
  } catch (error) {
    const known = asAgentError(error)
    if (known.code !== 'not_found')
      call.output.note(`the token this machine had before is still valid: agentctl token revoke ${id}`)
  }
}

/** A host name may hold anything; a context’s name is typed on command lines. */
const contextName = (text: string): string => {
  const name = text.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^[-.]+/, '')
  return name === '' ? 'box' : name.slice(0, 64)
}
