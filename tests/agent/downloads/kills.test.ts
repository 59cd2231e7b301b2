import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Content } from '../../support/hub/content.ts'
import type { Fault } from '../../support/hub/faults.ts'
import { startBench } from './bench.ts'
import type { ChildTask } from './child.ts'

const MIB = 2 ** 20
const repo = 'owner/repo'
const path = 'a.safetensors'
const KILLS = 50
const SIZE = 192 * MIB
const CONNECTIONS = 4
/** Of each connection: slow enough that no round comes to the end, fast enough that most of them write something. */
const BYTES_PER_SECOND = 4 * MIB
const RECORD_EVERY_MS = 50
/** From the first byte of a round to its kill. */
const LONGEST_ROUND_MS = 300

const root = join(import.meta.dirname, '../../..')
// Under node_modules, so that the native module is found; bundled, because it starts a hundred times.
const out = join(root, 'node_modules/.cache', `killed-child-${process.pid}`)

beforeAll(async () => {
  mkdirSync(out, { recursive: true })
  const sources = { child: 'tests/agent/downloads/child.ts', 'hash-worker': 'agent/downloads/hash-worker.ts' }
  for (const [name, source] of Object.entries(sources))
    await build({
      entryPoints: [join(root, source)],
      outfile: join(out, `${name}.js`),
      bundle: true,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      external: ['better-sqlite3'],
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
      },
    })
  cpSync(join(root, 'agent/platform/migrations'), join(out, 'migrations'), { recursive: true })
  writeFileSync(join(out, 'package.json'), '{"type":"module"}')
})
afterAll(() => rmSync(out, { recursive: true, force: true }))

test(`T23: ${KILLS} SIGKILLs at random moments of one download end in the right hash, and no record ever lies`, async () => {
  const slow: Fault = { at: 'cdn', does: { kind: 'slow', bytesPerSecond: BYTES_PER_SECOND } }
  await using bench = await startBench({ files: [{ repo, path, sizeBytes: SIZE, faults: [slow] }] })
  const file = bench.planned(path)
  const { content } = bench.hub.file(path)
  const { endpoints, allowHosts } = bench.resolve
  const state = join(bench.folder, 'child')
  mkdirSync(state)
  const limits = { recordEveryMs: RECORD_EVERY_MS, connectionsPerFile: CONNECTIONS }
  const task: ChildTask = { state, file, policy: { endpoints, allowHosts }, limits }
  const run = () =>
    spawn(process.execPath, [join(out, 'child.js'), JSON.stringify(task)], { stdio: 'inherit' })

  let recorded = 0
  for (let kill = 0; kill < KILLS; kill += 1) {
    const before = bench.hub.sentBytes('cdn')
    const child = run()
    const ended = once(child, 'exit')
    while (bench.hub.sentBytes('cdn') === before && child.exitCode === null) await delay(5)
    await delay(Math.random() * LONGEST_ROUND_MS)
    child.kill('SIGKILL')
    expect(await ended, 'it was still at work').toEqual([null, 'SIGKILL'])
    expect(bench.exists(path), 'the name is not visible before the file is verified').toBe(false)
    const done = recordedRanges(file.path)
    if (kill % 5 === 4) expectOnDisk(`${file.path}.part`, content, done)
    const now = done.reduce((sum, [start, end]) => sum + end - start, 0)
    expect(now, 'what was recorded stays recorded').toBeGreaterThanOrEqual(recorded)
    recorded = now
  }
  expect(recorded).toBeGreaterThan(0)

  bench.hub.file(path).faults.length = 0
  const before = bench.hub.sentBytes('cdn')
  const [status] = (await once(run(), 'exit')) as [number]
  expect(status).toBe(0)
  expect(bench.sha256(path)).toBe(content.sha256)
  expect(bench.left()).toEqual([path])
  // Only the holes: a connection that is overtaken at the end may have read a little of another’s part.
  expect(bench.hub.sentBytes('cdn') - before).toBeLessThan(SIZE - recorded + CONNECTIONS * 2 * MIB)
})

const recordedRanges = (at: string): readonly (readonly [number, number])[] => {
  try {
    return (JSON.parse(readFileSync(`${at}.part.json`, 'utf8')) as { done: [number, number][] }).done
  } catch {
    // Killed before the first record. A torn one would be an error of its own kind: it is replaced in one step.
    return []
  }
}

/** Every byte that the record names is on disk, and is the right one. */
const expectOnDisk = (at: string, content: Content, ranges: readonly (readonly [number, number])[]): void => {
  const handle = openSync(at, 'r')
  try {
    for (const [start, end] of ranges) {
      const bytes = Buffer.alloc(end - start)
      readSync(handle, bytes, 0, bytes.length, start)
      expect(bytes.equals(content.read(start, end)), `bytes ${start} to ${end}`).toBe(true)
    }
  } finally {
    closeSync(handle)
  }
}
