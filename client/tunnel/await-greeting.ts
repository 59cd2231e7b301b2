import { BRIDGE_GREETING } from '../../shared/contract/bridge.ts'
import type { PipedChild } from './child-socket.ts'

/** How the start of a bridge ended: it carries, or its ssh ended (null: by a signal), or nothing came in time. */
export type Greeted =
  | { readonly state: 'open' }
  | { readonly state: 'ended'; readonly exitCode: number | null }
  | { readonly state: 'silent' }

/** A login on a box that is busy with its own start takes this long at most. */
const GREETING_MS = 60_000
/** Login scripts say something before; one that says more than this is none. */
const MAX_NOISE_BYTES = 64 * 1024

/**
 * Waits for the words of `agentd bridge`; what a login script said before them is thrown away, and what follows them is
 * left in the stream. Rejects where the program cannot be started.
 */
export const awaitGreeting = (child: PipedChild): Promise<Greeted> =>
  new Promise((resolve, reject) => {
    const { stdout } = child
    let heard: Buffer = Buffer.alloc(0)
    const settle = (how: Greeted): void => {
      clearTimeout(timer)
      stdout.removeListener('data', onData)
      child.removeListener('close', onClose)
      resolve(how)
    }
    const onData = (chunk: Buffer): void => {
      heard = Buffer.concat([heard, chunk])
      const at = heard.indexOf(BRIDGE_GREETING)
      if (at < 0) {
        if (heard.byteLength > MAX_NOISE_BYTES) settle({ state: 'silent' })
        return
      }
      stdout.pause()
      const rest = heard.subarray(at + Buffer.byteLength(BRIDGE_GREETING))
      settle({ state: 'open' })
      if (rest.byteLength > 0) stdout.unshift(rest)
    }
    const onClose = (exitCode: number | null): void => settle({ state: 'ended', exitCode })
    const timer = setTimeout(() => settle({ state: 'silent' }), GREETING_MS)
    stdout.on('data', onData)
    child.once('close', onClose)
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
  })
