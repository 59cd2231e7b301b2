import { expect, test } from 'vitest'
import { createBandwidth } from '../../../agent/downloads/bandwidth.ts'
import { readDownloadLimits } from '../../../agent/downloads/download-limits.ts'
import type { Clock } from '../../../agent/platform/clock.ts'
import { readConfig } from '../../../agent/config.ts'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const never = new AbortController().signal

/** A clock that moves only when somebody sleeps. */
const createFakeClock = () => {
  let nowMs = 1_000
  const clock: Clock = {
    now: () => new Date(nowMs),
    monotonicMs: () => nowMs,
    sleep: (ms) => {
      nowMs += ms
      return Promise.resolve()
    },
  }
  return { clock, elapsedMs: () => nowMs - 1_000 }
}

test('a limit gives no more than its bytes a second, whatever is asked for at once', async () => {
  const { clock, elapsedMs } = createFakeClock()
  const bandwidth = createBandwidth(10 * MB, clock)
  await Promise.all(Array.from({ length: 100 }, () => bandwidth.take('a', MB, never)))
  // A hundred pieces of a tenth of a second each; what was not used before is made up for a tenth at most.
  expect(elapsedMs()).toBeGreaterThanOrEqual(9_700)
  expect(elapsedMs()).toBeLessThanOrEqual(10_000)
})

test('files that wait take turns, however many connections each of them has', async () => {
  const { clock } = createFakeClock()
  const bandwidth = createBandwidth(MB, clock)
  const order: string[] = []
  const take = (file: string): Promise<void> =>
    bandwidth.take(file, MB, never).then(() => void order.push(file))
  await Promise.all([...Array.from({ length: 8 }, () => take('wide')), take('narrow'), take('narrow')])
  // The narrow one is not behind the eight pieces that came before it.
  expect(order.indexOf('narrow')).toBeLessThanOrEqual(3)
  expect(order.lastIndexOf('narrow')).toBeLessThanOrEqual(5)
})

test('who gives up leaves the line, and the others go on', async () => {
  const { clock } = createFakeClock()
  const bandwidth = createBandwidth(MB, clock)
  const gone = new AbortController()
  const waiting = [
    bandwidth.take('a', MB, never),
    bandwidth.take('a', MB, gone.signal),
    bandwidth.take('b', MB, never),
  ]
  gone.abort(new Error('enough'))
  expect((await Promise.allSettled(waiting)).map(({ status }) => status)).toEqual([
    'fulfilled',
    'rejected',
    'fulfilled',
  ])
})

test('a real transfer under a limit arrives whole and is never faster than it', async () => {
  const limit = 8 * MB
  await using bench = await startBench({
    files: ['a', 'b'].map((name) => ({ repo, path: `${name}.safetensors`, sizeBytes: 6 * MB })),
    limits: { bytesPerSecond: limit },
  })
  const startedMs = performance.now()
  const files = ['a', 'b'].map((name) => bench.planned(`${name}.safetensors`))
  const outcomes = await bench.downloads.fetchAll(files, { signal: never })
  expect(outcomes.map(({ state }) => state)).toEqual(['done', 'done'])
  // 12 MB at 8 MB/s: a slow machine takes longer, none may take less. The first tenth and the last piece are free.
  const leastMs = ((12 * MB - 2 * 512 * 2 ** 10) / limit) * 1000 - 100
  expect(performance.now() - startedMs).toBeGreaterThan(leastMs)
  for (const { to } of files) expect(bench.sha256(to)).toBe(bench.hub.file(to).content.sha256)
  expect(bench.downloads.rows().map(({ retries }) => retries)).toEqual([0, 0])
})

test('a limit of connections holds for all files together', async () => {
  const slow = { at: 'cdn' as const, does: { kind: 'slow' as const, bytesPerSecond: 4 * MB } }
  await using bench = await startBench({
    files: ['a', 'b', 'c'].map((name) => ({
      repo,
      path: `${name}.safetensors`,
      sizeBytes: 6 * MB,
      faults: [slow],
    })),
    limits: readDownloadLimits({ speed: undefined, connections: '2' }),
  })
  const files = ['a', 'b', 'c'].map((name) => bench.planned(`${name}.safetensors`))
  let most = 0
  const watch = setInterval(() => {
    const open = bench.downloads.rows().reduce((sum, row) => sum + row.connections, 0)
    most = Math.max(most, open)
  }, 5)
  await bench.downloads.fetchAll(files, { signal: never })
  clearInterval(watch)
  // A file that begins has one connection before another one leaves its own.
  expect(most).toBeLessThanOrEqual(3)
  for (const { to } of files) expect(bench.sha256(to)).toBe(bench.hub.file(to).content.sha256)
})

test.each([
  { speed: 'fast', what: 'no speed' },
  { speed: '10KB/s', what: 'too little to keep connections alive' },
  { connections: '0', what: 'no connection at all' },
  { connections: '64', what: 'more connections than there are' },
])('$what is refused as a limit', ({ speed, connections }) => {
  expect(() => readDownloadLimits({ speed, connections })).toThrow(/--download-/)
})

test('limits come from flags, else from the environment', () => {
  const limitsOf = (argv: readonly string[], environment: Record<string, string>) => {
    const invocation = readConfig(['--home', '/tmp/x', ...argv], environment)
    return invocation.command === 'serve' ? invocation.config.downloadLimits : undefined
  }
  expect(limitsOf([], {})).toEqual({})
  expect(limitsOf(['--download-limit', '200MB/s'], { AGENT_DOWNLOAD_LIMIT: '1MB/s' })).toEqual({
    bytesPerSecond: 200 * MB,
  })
  expect(limitsOf([], { AGENT_DOWNLOAD_LIMIT: '1.5MiB/s', AGENT_DOWNLOAD_CONNECTIONS: '4' })).toEqual({
    bytesPerSecond: 1.5 * 2 ** 20,
    connections: 4,
    files: 4,
  })
})
