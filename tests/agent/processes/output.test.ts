import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../../agent/platform/clock.ts'
import { readOutput } from '../../../agent/processes/output-log.ts'
import { readJobSpec } from '../../../agent/processes/job-records.ts'
import { listLogFiles, logEnd } from '../../../agent/processes/shim/log-files.ts'
import { createLogWriter } from '../../../agent/processes/shim/log-writer.ts'
import {
  forever,
  jobFolder,
  makeHome,
  planCommand,
  readAll,
  shimPid,
  startRoom,
  until,
  untilState,
} from './kit.ts'

const signal = forever()

// Where the last output is lost at all, it is lost in two of three runs, so that ten of each size are enough.
test.each([20_480, 204_800])(
  'T5: a job that ends at once after %i bytes has every byte in its log',
  async (size) => {
    const home = makeHome()
    const { processes } = startRoom(home)
    const names = Array.from({ length: 10 }, (_, index) => `job-${index}`)
    const command = ['head', '-c', String(size), '/dev/zero']
    await processes.apply(
      names.map((name) => planCommand(name, command)),
      { signal },
    )
    await Promise.all(names.map((name) => untilState(processes, name, 'exited')))
    const lengths = await Promise.all(names.map(async (name) => (await readAll(processes, name)).length))
    expect(lengths).toEqual(names.map(() => size))
  },
)

test('T10: 200 MB of output and a reader that never reads hold up no job and cost no memory', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  const size = 200_000_000
  const command = ['bash', '-c', `head -c ${size} /dev/zero; echo the end; sleep 1000`]
  await processes.apply([planCommand('job', command)], { signal })
  const reader = createConnection(readJobSpec(jobFolder(home, 'job'))?.socket ?? '')
  onTestFinished(() => void reader.destroy())
  reader.pause()
  reader.write('{"type":"attach","fromOffset":0}\n')
  const end = size + 'the end\r\n'.length
  await until(() => logEnd(jobFolder(home, 'job')) === end)
  expect(end - (listLogFiles(jobFolder(home, 'job')).at(0)?.start ?? 0)).toBeLessThanOrEqual(137 * 2 ** 20)
  const status = readFileSync(`/proc/${shimPid(home, 'job')}/status`, 'utf8')
  expect(Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1])).toBeLessThan(150_000)
  const tail: Uint8Array[] = []
  for await (const { bytes } of processes.logs('job', { tailLines: 1, signal })) tail.push(bytes)
  expect(Buffer.concat(tail).subarray(-9).toString()).toBe('the end\r\n')
})

test('a followed log goes on over a restart of the agent and of the process, to the end of the process', async () => {
  const home = makeHome()
  const first = startRoom(home)
  const plan = [
    planCommand('job', ['bash', '-c', 'for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.2; done']),
  ]
  await first.processes.apply(plan, { signal })
  let seen = ''
  let offset = 0
  for await (const chunk of first.processes.logs('job', { follow: true, signal })) {
    expect(chunk.offset).toBe(offset)
    offset += chunk.bytes.length
    seen += Buffer.from(chunk.bytes).toString()
    if (seen.includes('3')) break
  }
  await first.leave()
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  for await (const chunk of processes.logs('job', { fromOffset: offset, follow: true, signal }))
    seen += Buffer.from(chunk.bytes).toString()
  expect(seen).toBe('1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\n10\r\n')
  await processes.start('job', { signal }).catch((error: unknown) => expect(error).toBeUndefined())
  await until(async () => (await readAll(processes, 'job')).length > seen.length)
  expect(await readAll(processes, 'job')).toContain('10\r\n1\r\n')
})

test('a follower that gives up gets its own reason', async () => {
  const { processes } = startRoom(makeHome())
  await processes.apply([planCommand('job', ['sleep', '1000'])], { signal })
  const enough = new AbortController()
  const reading = async (): Promise<void> => {
    for await (const chunk of processes.logs('job', { follow: true, signal: enough.signal }))
      expect(chunk).toBeUndefined()
  }
  const read = reading()
  enough.abort(new Error('enough'))
  await expect(read).rejects.toThrow('enough')
})

const collect = async (folder: string, range: Parameters<typeof readOutput>[1]) => {
  const chunks = []
  for await (const chunk of readOutput(folder, range)) chunks.push(chunk)
  return { offset: chunks[0]?.offset, text: Buffer.concat(chunks.map(({ bytes }) => bytes)).toString() }
}
const still = { follow: () => false, clock: systemClock, signal }

test('the log is cut into files, forgets the oldest, and keeps its offsets over a new writer', async () => {
  const folder = join(makeHome(), 'log')
  mkdirSync(folder)
  const limits = { fileBytes: 100, totalBytes: 350 }
  const lines = Array.from({ length: 100 }, (_, index) => `line ${String(index).padStart(4, '0')}\n`)
  for (const half of [lines.slice(0, 50), lines.slice(50)]) {
    const writer = createLogWriter(folder, limits)
    for (const line of half) writer.write(Buffer.from(line))
    writer.close()
  }
  const all = lines.join('')
  const { offset = 0, text } = await collect(folder, { fromOffset: 0, ...still })
  expect(offset).toBeGreaterThanOrEqual(all.length - 450)
  expect(text).toBe(all.slice(offset))
  expect(readdirSync(folder).length).toBeLessThan(8)
  expect((await collect(folder, { tailLines: 3, ...still })).text).toBe(lines.slice(-3).join(''))
  expect((await collect(folder, { tailLines: 0, ...still })).text).toBe('')
  expect((await collect(folder, { tailLines: 1_000, ...still })).text).toBe(text)
  expect((await collect(folder, { fromOffset: all.length - 5, ...still })).text).toBe('0099\n')
})

test('--since finds its place to a second', async () => {
  const folder = join(makeHome(), 'log')
  mkdirSync(folder)
  const writer = createLogWriter(folder, { fileBytes: 1_000, totalBytes: 10_000 })
  writer.write(Buffer.from('before\n'))
  await systemClock.sleep(2_100)
  const sinceMs = Date.now()
  writer.write(Buffer.from('after\n'))
  writer.close()
  expect((await collect(folder, { sinceMs, ...still })).text).toBe('after\n')
  expect((await collect(folder, { sinceMs: sinceMs - 60_000, ...still })).text).toBe('before\nafter\n')
  expect((await collect(folder, { sinceMs: sinceMs + 60_000, ...still })).text).toBe('')
})

test('an output that was never begun reads as empty', async () => {
  const folder = join(makeHome(), 'nothing')
  expect((await collect(folder, still)).text).toBe('')
  expect(existsSync(folder)).toBe(false)
})

test.skipIf(process.getuid?.() !== 0)(
  'a full disk loses output, and the log says how much once there is room, also over a change of files (needs root)',
  async () => {
    const disk = makeHome()
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk])
    onTestFinished(() => {
      spawnSync('umount', ['--lazy', disk])
    })
    const folder = join(disk, 'log')
    mkdirSync(folder)
    const writer = createLogWriter(folder, { fileBytes: 100_000, totalBytes: 10_000_000 })
    const line = Buffer.from(`${'x'.repeat(99)}\n`)
    writer.write(line)
    const filler = join(disk, 'filler')
    spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=4k'])
    // More than what is left of the last page, and more than a file holds.
    for (let lines = 0; lines < 2_000; lines += 1) writer.write(line)
    rmSync(filler)
    writer.write(Buffer.from('there is room again\n'))
    writer.close()
    const { text } = await collect(folder, { fromOffset: 0, ...still })
    const missing = Number(/\[gpu-agent: (\d+) bytes of output are missing here: .*ENOSPC/.exec(text)?.[1])
    const kept = text.replaceAll(/[^x]/g, '').length
    expect(missing).toBeGreaterThan(0)
    expect(kept + Math.round((missing * 99) / 100)).toBeCloseTo(2_001 * 99, -2)
    expect(text.endsWith('there is room again\n')).toBe(true)
  },
)
