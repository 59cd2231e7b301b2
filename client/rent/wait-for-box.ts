import { AgentError } from '../../shared/contract/errors.ts'
import type { Instance, Provider } from '../../shared/providers/provider.ts'
import { formatDuration } from '../../shared/contract/units.ts'
import type { Call } from '../command.ts'
import { installAgent } from '../context/install-agent.ts'
import type { MadeContext } from '../context/pair-box.ts'
import { pairSsh } from '../context/pair-box.ts'
import type { SshTarget } from '../context/target.ts'
import { targetText, USUAL_SOCKET } from '../context/target.ts'
import { asAgentError } from '../exit.ts'
import { sleep } from '../wait.ts'

/** The box that is waited for, and how long altogether. */
export type Awaited = {
  readonly provider: Provider
  readonly id: string
  /** False: it was stopped and is being started, so it may look stopped for a while. */
  readonly isNew: boolean
  readonly context: string
  readonly withinMs: number
  readonly prefix: string
  readonly release: string | undefined
}

const LOOK_EVERY_MS = 3_000
const TRY_EVERY_MS = 2_000

/**
 * Waits until a new box carries: its machine runs, its sshd answers, its agent is paired. Where the image has no agent
 * it is installed. Every step is told as it begins.
 * @throws AgentError instance_failed; what ssh and the installation throw; the signal's reason
 */
export const waitForBox = async (box: Awaited, call: Call): Promise<MadeContext> => {
  const endMs = performance.now() + box.withinMs
  const target = await waitForMachine(box, { call, endMs })
  await forgetOldKey(target, call)
  await waitForSsh(target, { box, call, endMs })
  return pairOrInstall(target, { box, call, endMs })
}

type Waiting = { readonly call: Call; readonly endMs: number }

const waitForMachine = async (
  { provider, id, isNew, withinMs }: Awaited,
  { call, endMs }: Waiting,
): Promise<SshTarget> => {
  let told = ''
  for (;;) {
    const instance = await look(provider, { id, call })
    if (instance !== undefined) {
      const { state, message, ssh } = instance
      const news = `${state}${message === null || message === '' ? '' : `: ${message}`}`
      if (news !== told) call.output.note(`${provider.name} instance ${id} is ${news}`)
      told = news
      if (state === 'running' && ssh !== null) return { kind: 'ssh', ...ssh, socket: USUAL_SOCKET }
      if (state === 'failed' || state === 'gone' || (state === 'stopped' && isNew))
        throw new AgentError(
          'instance_failed',
          `${provider.name} instance ${id} does not come up: it is ${news}`,
        )
    }
    if (performance.now() > endMs)
      throw new AgentError(
        'instance_failed',
        `${provider.name} instance ${id} did not come up in ${formatDuration(withinMs)}: it is ${told || 'not readable'}`,
        {
          hint: isNew
            ? 'Run agentctl up again, with another --gpu or a longer --boot-timeout.'
            : 'Its GPU may be somebody else’s now: wait longer with --boot-timeout, or rent another with --new.',
        },
      )
    await sleep(LOOK_EVERY_MS, call.longSignal)
  }
}

/** One look; undefined where the provider does not answer for the moment. */
const look = async (
  provider: Provider,
  { id, call }: { id: string; call: Call },
): Promise<Instance | undefined> => {
  try {
    return await provider.show(id, { signal: call.longSignal })
  } catch (error) {
    if (!(error instanceof AgentError) || error.code !== 'provider_failed') throw error
    call.output.note(`${error.message}; trying again`)
    return undefined
  }
}

/** Addresses of rented boxes are used again and again: the key of the one before says nothing about this one. */
const forgetOldKey = async (target: SshTarget, call: Call): Promise<void> => {
  const { forgetTunnel } = await import('../tunnel/forget-tunnel.ts')
  await forgetTunnel({ target, others: [] }, call)
}

const waitForSsh = async (
  target: SshTarget,
  { box, call, endMs }: Waiting & { readonly box: Awaited },
): Promise<void> => {
  const [{ runOnBox }, { tunnelPlaces, makePlaces }, { sshFailure }] = await Promise.all([
    import('../tunnel/ssh.ts'),
    import('../tunnel/places.ts'),
    import('../tunnel/ssh-failure.ts'),
  ])
  const places = tunnelPlaces(target, call.environment)
  await makePlaces(places)
  call.output.note(`waiting for ssh at ${targetText(target)}`)
  const context = { target, places, environment: call.environment, signal: call.longSignal }
  let told = ''
  for (;;) {
    const end = await runOnBox(['true'], context)
    if (end.exitCode === 0) return
    const failure = sshFailure(end, context)
    if (failure.message !== told) call.output.note(`${failure.message}; trying again`)
    told = failure.message
    if (performance.now() > endMs)
      throw new AgentError('instance_failed', `${box.provider.name} instance ${box.id}: ${failure.message}`, {
        cause: failure,
        hint:
          failure.code === 'unauthorized'
            ? `Put your public key into your account at ${box.provider.name}: a new box takes the keys that are there.`
            : failure.hint,
      })
    await sleep(TRY_EVERY_MS, call.longSignal)
  }
}

/** An image with the agent has it on the PATH; a stock one gets it now. */
const pairOrInstall = async (
  target: SshTarget,
  { box, call, endMs }: Waiting & { readonly box: Awaited },
): Promise<MadeContext> => {
  const rental = { provider: box.provider.name, id: box.id }
  const asked = { target, name: box.context, rental }
  const here: Call = { ...call, signal: call.longSignal }
  call.output.note('waiting for the agent')
  for (;;) {
    try {
      return await pairSsh({ ...asked, agentd: 'agentd' }, here)
    } catch (error) {
      const known = asAgentError(error)
      call.longSignal.throwIfAborted()
      if (known.code === 'program_missing') break
      if (known.code !== 'unreachable' || performance.now() > endMs) throw known
    }
    await sleep(TRY_EVERY_MS, call.longSignal)
  }
  const { context } = await installAgent(
    { ...asked, prefix: box.prefix, release: box.release, hasService: true },
    here,
  )
  if (context !== undefined) return context
  throw new AgentError('instance_failed', `no agent came up on ${targetText(target)}`)
}
