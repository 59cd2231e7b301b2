import { connect } from 'node:net'
import type { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { BRIDGE_GREETING } from '../shared/contract/bridge.ts'
import { AgentError } from '../shared/contract/errors.ts'

type Ends = { readonly input: Readable; readonly output: Writable }

/**
 * Joins two streams with the agent's unix socket, byte for byte after a greeting, for a client whose ssh forwards no
 * sockets. The end of the input is passed on, and what the agent still says after it comes out; the agent's own end is
 * the end. Needs no token: the requests that pass carry theirs.
 * @throws AgentError unreachable when nobody listens at the socket
 */
export const bridge = async (socketPath: string, { input, output }: Ends): Promise<void> => {
  const socket = await open(socketPath)
  output.write(BRIDGE_GREETING)
  await new Promise<void>((resolve) => {
    socket.once('end', () => output.end(resolve))
    // The client went away, or the agent did in the middle of something: there is nobody left to tell.
    for (const stream of [socket, input, output]) stream.on('error', () => resolve())
    socket.pipe(output, { end: false })
    input.pipe(socket)
  })
  socket.destroy()
}

const open = (path: string): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true })
    const fail = (error: Error): void => {
      reject(
        new AgentError('unreachable', `no agent answers on ${path}: ${error.message}`, {
          cause: error,
          hint: 'Start agentd, or name the socket that it listens on: agentd bridge --socket PATH.',
        }),
      )
    }
    socket.once('error', fail)
    socket.once('connect', () => {
      socket.removeListener('error', fail)
      resolve(socket)
    })
  })
