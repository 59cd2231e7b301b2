import { Agent } from 'node:http'
import type { Transport } from '../transport.ts'
import { createTransport } from '../transport.ts'
import { connectBridge } from './bridge.ts'
import { isBroken, isRepeatable } from './repeat.ts'
import type { SshContext } from './ssh.ts'

/**
 * Through an ssh for each connection, kept for the next request while the command runs. One that broke is opened again,
 * once a request, where asking twice does no harm.
 */
export const createBridgeTransport = (context: Omit<SshContext, 'signal'>): Transport => {
  const open = connectBridge(context)
  const agent = Object.assign(new Agent({ keepAlive: true }), { createConnection: open })
  const send = createTransport({ agent, isShared: true }, open)
  return async (request) => {
    try {
      return await send(request)
    } catch (error) {
      request.signal.throwIfAborted()
      if (!isBroken(error) || !isRepeatable(request)) throw error
      return send(request)
    }
  }
}
