import { AgentError } from '../../shared/contract/errors.ts'
import type { Call } from '../command.ts'
import { sleep } from '../wait.ts'
import type { RentedBox } from './contexts.ts'
import type { MadeContext } from './pair-box.ts'
import { pairSsh } from './pair-box.ts'
import type { SshTarget } from './target.ts'
import { targetText } from './target.ts'

/** Where the agent goes on a box when it is not said otherwise, by `install` and in the image. */
export const USUAL_PREFIX = '/opt/gpu-agent'
/** An agent that was just started listens within this time, on a machine that is busy with its own boot. */
const START_TRIES = 20
const TRY_EVERY_MS = 500

/** What is put where. */
export type Installation = {
  readonly target: SshTarget
  readonly prefix: string
  /** The archive to send; undefined for this agentctl's own. */
  readonly release: string | undefined
  readonly hasService: boolean
  readonly name: string | undefined
  readonly rental?: RentedBox
}

/** `context` is undefined where nothing was started and no agent runs. */
export type Installed = {
  readonly state: 'present' | 'installed'
  readonly context: MadeContext | undefined
}

/** Puts the agent on a box, starts it at boot and now, and pairs. May be repeated. @throws AgentError */
export const installAgent = async (wanted: Installation, call: Call): Promise<Installed> => {
  const state = await putRelease(wanted, call)
  return { state, context: await pairInstalled(wanted, call) }
}

const putRelease = async (
  { target, prefix, release: file, hasService }: Installation,
  call: Call,
): Promise<Installed['state']> => {
  const [{ openRelease }, { installRelease, startRelease }, { tunnelPlaces }] = await Promise.all([
    import('../release.ts'),
    import('../tunnel/install-release.ts'),
    import('../tunnel/places.ts'),
  ])
  const { environment, output, signal } = call
  const context = { target, places: tunnelPlaces(target, environment), environment, signal }
  const release = await openRelease(file, signal)
  try {
    output.note(`putting the agent into ${prefix} on ${targetText(target)}`)
    const placed = await installRelease({ prefix, release }, context)
    output.note(placed.state === 'present' ? 'this release is there already' : 'it is there and runs')
    const said = await startRelease({ prefix, placed, service: hasService }, context)
    for (const line of said.split('\n').filter(Boolean)) output.note(line)
    return placed.state
  } finally {
    await release.discard()
  }
}

/** Without a service an agent may or may not run; with one it has just been started and needs a moment. */
const pairInstalled = async (wanted: Installation, call: Call): Promise<MadeContext | undefined> => {
  const { prefix, hasService, ...asked } = wanted
  for (let tries = 1; ; tries += 1) {
    try {
      return await pairSsh({ ...asked, agentd: `${prefix}/current/bin/agentd` }, call)
    } catch (error) {
      const isAbsent = error instanceof AgentError && error.code === 'unreachable'
      if (!isAbsent || (hasService && tries >= START_TRIES)) throw error
      if (!hasService) return undefined
    }
    await sleep(TRY_EVERY_MS, call.signal)
  }
}
