import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { AgentError } from '../../shared/contract/errors.ts'
import { takeLock } from '../lock.ts'
import { sleep } from '../wait.ts'
import type { TunnelPlaces } from './places.ts'
import { makePlaces } from './places.ts'
import type { SshContext, SshEnd } from './ssh.ts'
import { connectionOptions, destination, options, runSsh } from './ssh.ts'
import { sshFailure } from './ssh-failure.ts'

/** An unused connection to a box stays for this long, so that the next command starts at once. */
const PERSIST = '10m'
const LOCK_POLL_MS = 50

/**
 * Opens the connection to the box: one ssh (a “master”) in the background that forwards the agent's socket to a socket
 * here. Returns when it carries. Where another agentctl has just opened it, that one is used.
 * @throws AgentError unreachable, unauthorized; the signal's reason
 */
export const dial = async (context: SshContext): Promise<void> => {
  const { target, places, signal } = context
  await makePlaces(places)
  const unlock = await waitForLock(places.lock, signal)
  try {
    if (await isAccepting(places.socket)) return
    await closeMaster(context)
    const end = await runSsh(
      [
        ...['-M', '-f', '-N', '-S', controlPath(places)],
        ...connectionOptions(context),
        ...options({
          ControlMaster: 'yes',
          ControlPersist: PERSIST,
          // A forward of the user's own configuration may be taken by a terminal that is open; ours is added below.
          ClearAllForwardings: 'yes',
          ExitOnForwardFailure: 'yes',
          // What a master that was killed left behind is replaced; the new one is for this user alone.
          StreamLocalBindUnlink: 'yes',
          StreamLocalBindMask: '0177',
        }),
        ...destination(target),
      ],
      context,
    )
    if (end.exitCode !== 0) throw sshFailure(end, context)
    const there = target.tls === undefined ? target.socket : `127.0.0.1:${target.tls.port}`
    const forwarded = await askMaster(['forward', '-L', `${places.socket}:${there}`], context)
    if (forwarded.exitCode === 0) return
    await closeMaster(context)
    throw sshFailure(forwarded, context)
  } finally {
    await unlock()
  }
}

/** True while the master of this box lives. */
export const isMasterAlive = async (context: SshContext): Promise<boolean> =>
  existsSync(context.places.control) && (await askMaster(['check'], context)).exitCode === 0

/** Ends the master where there is one, and removes what it leaves. */
export const closeMaster = async (context: SshContext): Promise<void> => {
  const { places } = context
  if (existsSync(places.control)) await askMaster(['exit'], context)
  await rm(places.control, { force: true })
  await rm(places.socket, { force: true })
}

/** Tells the master something over its control socket. The user's configuration has no part in that. */
const askMaster = (what: readonly string[], context: SshContext): Promise<SshEnd> =>
  runSsh(
    [
      ...['-F', '/dev/null', '-S', controlPath(context.places), '-O'],
      ...what,
      ...destination(context.target),
    ],
    context,
  )

/** ssh expands `%` in it. */
const controlPath = ({ control }: TunnelPlaces): string => control.replaceAll('%', '%%')

const isAccepting = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })

/** Of several commands at once one dials; the others wait for it. */
const waitForLock = async (path: string, signal: AbortSignal): Promise<() => Promise<void>> => {
  for (;;) {
    try {
      return await takeLock(path, 'another agentctl opens the connection')
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== 'busy') throw error
    }
    await sleep(LOCK_POLL_MS, signal)
  }
}
