import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import type { Duplex } from 'node:stream'
import { AgentError } from '../../shared/contract/errors.ts'
import { isPlainPath, isPlainProgram } from '../context/target.ts'
import type { Connect } from '../transport.ts'
import { USUAL_AGENTD } from './agentd-failure.ts'
import { awaitGreeting } from './await-greeting.ts'
import { bridgeFailure } from './bridge-failure.ts'
import type { PipedChild } from './child-socket.ts'
import { createChildSocket } from './child-socket.ts'
import { openErrorFile } from './error-file.ts'
import { makePlaces } from './places.ts'
import type { SshContext } from './ssh.ts'
import { commandLine, spawnFailure, sshEnvironment } from './ssh.ts'

type BridgeContext = Omit<SshContext, 'signal'>

/**
 * Opens connections to a box's agent that are an ssh each, with `agentd bridge` at its end: nothing is forwarded, and
 * nothing listens here. A connection is handed out when the agent's socket there is open, so what fails before has sent
 * nothing. No ssh outlives this program.
 */
export const connectBridge = (context: BridgeContext): Connect => {
  const children = new Set<ChildProcess>()
  process.once('exit', () => {
    for (const child of children) child.kill()
  })
  const onStarted = (child: ChildProcess): void => {
    children.add(child)
    child.once('close', () => children.delete(child))
  }
  return (_, done) => {
    openBridge({ ...context, onStarted }).then(
      (socket) => done(null, socket),
      // What the error callback of node's http takes and never looks at.
      (error: unknown) => done(error as Error, undefined as unknown as Duplex),
    )
    return undefined
  }
}

const openBridge = async (
  context: BridgeContext & { readonly onStarted: (child: ChildProcess) => void },
): Promise<Duplex> => {
  const { target, places, environment } = context
  const command = bridgeCommand(target)
  await makePlaces(places)
  const errors = await openErrorFile(places.folder)
  try {
    const child = spawn('ssh', commandLine(command, context), {
      env: sshEnvironment(environment),
      stdio: ['pipe', 'pipe', errors.fd],
      // The first Ctrl-C of a terminal ends the command in order, over connections that still carry. On Windows it would
      // have a console of its own.
      detached: process.platform !== 'win32',
      windowsHide: true,
      // Its errors go to a file, which the types of spawn do not know.
    }) as unknown as PipedChild
    context.onStarted(child)
    const greeted = await awaitGreeting(child).catch((error: unknown) => {
      throw spawnFailure(error)
    })
    if (greeted.state === 'open') return createChildSocket(child)
    child.kill()
    throw bridgeFailure({ greeted, stderr: await errors.text() }, context)
  } finally {
    await errors.close()
  }
}

/** sshd hands it to a shell of the box, so its words mean nothing to one. @throws AgentError usage */
const bridgeCommand = ({ agentd = USUAL_AGENTD, socket }: BridgeContext['target']): string[] => {
  if (!isPlainProgram(agentd))
    throw new AgentError('usage', `agentd: ${agentd} is neither a program’s name nor a plain absolute path`, {
      hint: 'Pair again: agentctl pair TARGET --agentd PATH.',
    })
  if (!isPlainPath(socket)) throw new AgentError('usage', `the socket ${socket} is not a plain absolute path`)
  return [agentd, 'bridge', '--socket', socket]
}
