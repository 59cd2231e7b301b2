import { createHash } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { connect } from 'node:tls'
import { AgentError } from '../../shared/contract/errors.ts'

/** Where a TLS server is, and the one public key it may have. */
export type PinnedServer = {
  readonly at: { readonly host: string; readonly port: number } | { readonly path: string }
  /** `sha256//BASE64`, of its public key (SubjectPublicKeyInfo). */
  readonly pin: string
  /** How errors call it. */
  readonly label: string
}

const CONNECT_MS = 15_000

/**
 * Connects, and hands the connection out only when the server's key is the pinned one: an impostor gets no byte of a
 * request. No authority is asked, so the certificate's names and dates mean nothing.
 */
export const connectPinned = (
  { at, pin, label }: PinnedServer,
  done: (error: Error | null, socket: Duplex) => void,
): void => {
  // What the error callback of node's http takes and never looks at.
  const none = undefined as unknown as Duplex
  const socket = connect({
    ...at,
    servername: 'agent',
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['http/1.1'],
    // The pin is checked below, before anything is written.
    rejectUnauthorized: false,
  })
  const fail = (error: Error): void => {
    socket.destroy()
    done(error, none)
  }
  socket.setTimeout(CONNECT_MS, () => {
    fail(new AgentError('unreachable', `${label} does not answer within ${CONNECT_MS / 1000} s`))
  })
  socket.once('error', fail)
  socket.once('secureConnect', () => {
    socket.removeListener('error', fail)
    socket.setTimeout(0)
    socket.removeAllListeners('timeout')
    const key = socket.getPeerX509Certificate()?.publicKey.export({ type: 'spki', format: 'der' })
    const found = key === undefined ? 'none' : `sha256//${createHash('sha256').update(key).digest('base64')}`
    if (found === pin) done(null, socket)
    else fail(pinMismatch(label, { found, pin }))
  })
}

const pinMismatch = (
  label: string,
  { found, pin }: { readonly found: string; readonly pin: string },
): AgentError =>
  new AgentError(
    'pin_mismatch',
    `the certificate of ${label} is not the one that is pinned: ${found}, not ${pin}`,
  )
