import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** A line to a port of loopback that can be as bad as a real one. */
export type BadLine = {
  readonly port: number
  /** Bytes that came from the far end so far, over all connections. */
  carried(): number
  connections(): number
  /** Every connection that is open now is reset, as by a router that forgot it. */
  reset(): void
  /** What is open now carries nothing any more and tells nobody; new connections are as before. */
  freeze(): void
  close(): Promise<void>
}

/** Starts a relay that carries `bytesPerSecond` towards the caller, all connections together. */
export const startBadLine = async (to: {
  readonly port: number
  readonly bytesPerSecond: number
}): Promise<BadLine> => {
  const open = new Set<{ near: Socket; far: Socket; frozen: boolean }>()
  let carried = 0
  let connections = 0
  let freeAtMs = performance.now()
  const pump = async (line: { near: Socket; far: Socket; frozen: boolean }): Promise<void> => {
    for await (const chunk of line.far) {
      const bytes = chunk as Buffer
      freeAtMs = Math.max(freeAtMs, performance.now()) + (bytes.byteLength / to.bytesPerSecond) * 1000
      await delay(Math.max(0, freeAtMs - performance.now()))
      // Held for ever, with both ends open: the silence of a line that is gone.
      while (line.frozen) await delay(100)
      carried += bytes.byteLength
      if (!line.near.write(bytes)) await new Promise((resolve) => line.near.once('drain', resolve))
    }
    line.near.end()
  }
  const server = createServer((near) => {
    connections += 1
    const line = { near, far: connect(to.port, '127.0.0.1'), frozen: false }
    open.add(line)
    const end = (): void => {
      line.frozen = false
      open.delete(line)
      near.destroy()
      line.far.destroy()
    }
    near.on('error', end).on('close', end)
    line.far.on('error', end)
    near.on('data', (bytes) => {
      if (!line.frozen) line.far.write(bytes)
    })
    pump(line).catch(end)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const reset = (): void => {
    for (const { near } of open) near.resetAndDestroy()
  }
  return {
    port: (server.address() as AddressInfo).port,
    carried: () => carried,
    connections: () => connections,
    reset,
    freeze: () => {
      for (const line of open) line.frozen = true
    },
    close: async () => {
      reset()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
