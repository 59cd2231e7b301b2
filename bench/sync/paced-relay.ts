import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer } from 'node:net'
import { Transform } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'

export type PacedRelay = {
  readonly port: number
  /** Bytes that went towards the clients so far. */
  bytes(): number
  close(): Promise<void>
}

/** A relay to a port of this machine whose clients together get so many bytes a second: a link of that speed. */
export const startPacedRelay = async (
  toPort: number,
  { bytesPerSecond }: { bytesPerSecond: number },
): Promise<PacedRelay> => {
  let bytes = 0
  let freeAtMs = performance.now()
  const pace = () =>
    new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        bytes += chunk.length
        freeAtMs = Math.max(freeAtMs, performance.now()) + (1000 * chunk.length) / bytesPerSecond
        const waitMs = freeAtMs - performance.now()
        // Less than this a timer cannot wait; the debt is kept.
        if (waitMs < 5) done(null, chunk)
        else void delay(waitMs).then(() => done(null, chunk))
      },
    })
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const box = connect(toPort, '127.0.0.1')
    client.pipe(box)
    box.pipe(pace()).pipe(client)
    for (const socket of [client, box]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        for (const one of [client, box]) one.destroy()
      })
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    bytes: () => bytes,
    // The master of an ssh connection outlives its commands, and would be waited for.
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
