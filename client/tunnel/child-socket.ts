import type { ChildProcessByStdio } from 'node:child_process'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { Readable, Writable } from 'node:stream'

/** A program whose standard input and output are a connection. */
export type PipedChild = ChildProcessByStdio<Writable, Readable, null>

/**
 * The two pipes of a child as one connection, with what node:http and ws ask of a socket: the time without a byte, and
 * that one which is kept for later does not keep this program alive. Destroying it ends the child.
 */
export const createChildSocket = (child: PipedChild): Duplex => {
  const { stdin, stdout } = child
  const idle = createIdleTimer(() => duplex.emit('timeout'))
  const duplex = new Duplex({
    // When the one side has nothing more to say, the other is over too, as with a socket of node.
    allowHalfOpen: false,
    read: () => {
      stdout.resume()
    },
    write: (chunk: Buffer, _encoding, done) => {
      idle.restart()
      stdin.write(chunk, (error) => done(error ? broken(error) : null))
    },
    final: (done) => {
      if (stdin.destroyed) done()
      else stdin.end(() => done())
    },
    destroy: (error, done) => {
      idle.set(0)
      child.kill()
      done(error)
    },
  })
  stdout.on('data', (chunk: Buffer) => {
    idle.restart()
    if (!duplex.push(chunk)) stdout.pause()
  })
  stdout.once('end', () => duplex.push(null))
  stdout.on('error', (error) => duplex.destroy(broken(error)))
  // It is told by the write that failed.
  stdin.on('error', () => undefined)
  // node types them as plain streams; pipes of a child are sockets.
  const parts = [child, stdin, stdout] as unknown as readonly Pick<Socket, 'ref' | 'unref'>[]
  const socket = Object.assign(duplex, {
    timeout: 0,
    setTimeout: (ms: number, onTimeout?: () => void) => {
      socket.timeout = ms
      idle.set(ms)
      if (onTimeout !== undefined) socket.once('timeout', onTimeout)
      return socket
    },
    // The bytes go through a pipe: ssh itself looks after the network.
    setNoDelay: () => socket,
    setKeepAlive: () => socket,
    ref: () => {
      for (const part of parts) part.ref()
      return socket
    },
    unref: () => {
      for (const part of parts) part.unref()
      return socket
    },
  })
  return socket
}

/** As node calls a connection that went away, so that what may be asked again is. */
const broken = (cause: Error): Error =>
  Object.assign(new Error('the connection through ssh broke', { cause }), { code: 'ECONNRESET' })

const createIdleTimer = (onIdle: () => void) => {
  let timer: NodeJS.Timeout | undefined
  return {
    /** Milliseconds; 0 waits for ever. */
    set: (ms: number): void => {
      clearTimeout(timer)
      timer = ms > 0 ? setTimeout(onIdle, ms).unref() : undefined
    },
    restart: (): void => {
      timer?.refresh()
    },
  }
}
