import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { runAgentctl } from '../support/agentctl.ts'
import type { MadeCheckpoint } from '../support/checkpoint.ts'
import { describeCheckpoint, holds, makeCheckpoint } from '../support/checkpoint.ts'
import type { Pull } from '../support/pull.ts'
import { CHUNKS, createPull, isChunk, MIB, NAME } from '../support/pull.ts'

let at: Pull
beforeEach(async () => {
  at = await createPull()
})
afterEach(() => at.box.close())

test('case S47: a checkpoint that is gone in mid-pull is looked for, then told as changed', async () => {
  const release = at.holdAfter(6)
  const running = at.start()
  await at.waitForChunks(6)
  const { checkpoint } = at.box.records
  at.box.records.checkpoint = undefined
  release()
  await running.printed('resolving it again')
  at.box.records.checkpoint = checkpoint
  expect((await running.ended).code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
})

test('case S47: a file that is replaced in mid-pull is noticed, and what is still equal is kept', async () => {
  const release = at.holdAfter(6)
  const running = at.start()
  await at.waitForChunks(6)
  writeFileSync(join(at.made.folder, 'trainer_state.json'), '{"step": 501}')
  const changed = makeCheckpoint(join(at.box.home, 'other'), { 'trainer_state.json': '{"step": 501}' })
  const [newState] = changed.files.files
  at.made = describeCheckpoint({
    folder: at.made.folder,
    name: NAME,
    files: at.made.files.files.map((file) => (file.path === newState?.path ? newState : file)),
  })
  at.box.records.checkpoint = at.made
  release()
  await at.box.stop()
  await at.box.start()
  const { code, stderr } = await running.ended
  expect(stderr).toContain('changed on the box; resolving it again')
  expect(code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
  const weights = at.box.requests.filter(
    ({ url, headers }) => url.includes('model') && headers.range === 'bytes=0-8388607',
  )
  expect(weights).toHaveLength(1)
})

test('case S47: of a file with another version here only what differs is fetched, though its header grew', async () => {
  const folder = join(at.box.home, 'tensors')
  const data = randomBytes(40 * MIB)
  const write = (header: string): void => {
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(header.length))
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'w.safetensors'), Buffer.concat([length, Buffer.from(header), data]))
  }
  const describeIt = (): MadeCheckpoint => {
    const bytes = readFileSync(join(folder, 'w.safetensors'))
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const files = [{ path: 'w.safetensors', sizeBytes: bytes.length, sha256 }]
    return describeCheckpoint({ folder, name: NAME, files })
  }
  write('{"__metadata__":{}}')
  at.box.records.checkpoint = describeIt()
  expect((await at.run()).code).toBe(EXIT.done)
  data.fill(7, 20 * MIB, 20 * MIB + 100)
  write('{"__metadata__":{"step":"200"}}')
  const changed = describeIt()
  at.box.records.checkpoint = changed
  at.box.requests.length = 0
  expect((await at.run()).code).toBe(EXIT.done)
  expect(holds(at.target, changed)).toBe(true)
  expect(at.chunkRequests()).toBe(2)
})

test('case S47: a checkpoint that never rests is given up with 1', async () => {
  at.box.intercept = ({ url }, response) => {
    if (!isChunk(url)) return false
    response.writeHead(200, { etag: '"sha256-another"' }).end('another')
    return true
  }
  const { code, stdout } = await at.run('--json')
  expect(code).toBe(EXIT.failed)
  expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('checkpoint_changed')
  expect(existsSync(at.target)).toBe(false)
})

test('case S48: an agent that restarts in mid-pull costs no chunk that has arrived', async () => {
  const release = at.holdAfter(4)
  const running = at.start()
  await at.waitForChunks(4)
  await at.box.stop()
  release()
  at.box.requests.length = 0
  await running.printed('trying again')
  await at.box.start()
  const { code } = await running.ended
  expect(code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
  expect(at.chunkRequests()).toBe(CHUNKS - 4)
})

const isFirst = (asked: Set<string>, { url, headers }: IncomingMessage): boolean => {
  const key = `${url ?? ''} ${headers.range ?? ''}`
  if (!isChunk(url) || asked.has(key)) return false
  asked.add(key)
  return true
}
const etagOf = ({ url }: IncomingMessage): string => {
  const path = new URL(url ?? '', 'http://x').searchParams.get('path')
  return `"sha256-${at.made.files.files.find((file) => file.path === path)?.sha256 ?? ''}"`
}
const WRONG = [
  {
    name: 'the whole file to a range',
    answer: (request: IncomingMessage, response: ServerResponse) =>
      response.writeHead(200, { etag: etagOf(request) }).end(Buffer.alloc(9 * MIB)),
  },
  {
    name: 'gzip to a range',
    answer: (request: IncomingMessage, response: ServerResponse) =>
      response
        .writeHead(206, {
          etag: etagOf(request),
          'content-encoding': 'gzip',
          'content-range': `bytes ${request.headers.range?.slice(6) ?? ''}/${40 * MIB}`,
        })
        .end(gzipSync('x')),
  },
  {
    name: 'another range than was asked for',
    answer: (request: IncomingMessage, response: ServerResponse) =>
      response
        .writeHead(206, { etag: etagOf(request), 'content-range': `bytes 5-9/${40 * MIB}` })
        .end('hello'),
  },
]

test.each(WRONG)(
  'case S49: something on the way that answers $name once does no harm',
  async ({ answer }) => {
    const asked = new Set<string>()
    at.box.intercept = (request, response) => {
      if (!isFirst(asked, request)) return false
      answer(request, response)
      return true
    }
    const { code } = await at.run()
    expect(code).toBe(EXIT.done)
    expect(holds(at.target, at.made)).toBe(true)
  },
)

test.each(WRONG)('case S49: something that always answers $name ends the pull with 1', async ({ answer }) => {
  at.box.intercept = (request, response) => {
    if (!isChunk(request.url)) return false
    answer(request, response)
    return true
  }
  const { code, stdout } = await at.run('--json')
  expect(code).toBe(EXIT.failed)
  expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('source_refused')
  expect(existsSync(at.target)).toBe(false)
})

test('case S50: a wrong token is 4 and nothing is written', async () => {
  const env = { ...at.box.env, AGENTCTL_TOKEN: 'wrong.token' }
  const { code } = await runAgentctl(['pull-checkpoint', '--to', at.to], { env })
  expect(code).toBe(EXIT.notAuthenticated)
  expect(readdirSync(at.to)).toEqual([])
})

test('a checkpoint that does not exist is 6', async () => {
  expect((await runAgentctl(['pull-checkpoint', 'nothing', '--to', at.to], { env: at.box.env })).code).toBe(
    EXIT.notFound,
  )
})

test.each(['../evil', '/etc/evil', 'a/../../evil', 'a//b', '..', 'a\\b', 'C:/evil', 'a\u0000b'])(
  'case S50: a box that names the file %j is refused, and nothing is written',
  async (path) => {
    const [file] = at.made.files.files
    at.box.records.checkpoint = describeCheckpoint({ ...at.made, name: NAME, files: [{ ...file!, path }] })
    const { code, stdout } = await at.run('--json')
    expect(code).toBe(EXIT.refused)
    expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('unsafe_path')
    expect(readdirSync(at.to)).toEqual([])
  },
)

test('case S50: a box that names the checkpoint itself outside the folder is refused', async () => {
  at.box.records.checkpoint = describeCheckpoint({ ...at.made, name: '../evil', files: at.made.files.files })
  expect((await at.run()).code).toBe(EXIT.refused)
  expect(existsSync(join(at.box.home, 'evil'))).toBe(false)
  expect(existsSync(join(at.box.home, 'evil.partial'))).toBe(false)
})

/** Answers the first chunk of the weights with one bit flipped, as often as asked. */
const flipBit = (times: number): void => {
  let flipped = 0
  const bytes = readFileSync(join(at.made.folder, 'model.safetensors')).subarray(0, 8 * MIB)
  const wrong = Buffer.from(bytes)
  wrong.writeUInt8(wrong.readUInt8(1000) ^ 1, 1000)
  at.box.intercept = (request, response) => {
    const { url, headers } = request
    if (!url?.includes('model') || headers.range !== 'bytes=0-8388607' || flipped === times) return false
    flipped += 1
    response
      .writeHead(206, { etag: etagOf(request), 'content-range': `bytes 0-8388607/${40 * MIB}` })
      .end(wrong)
    return true
  }
}

test('case S54: a bit that flips on the way is noticed and the file comes again', async () => {
  flipBit(1)
  const { code } = await at.run()
  expect(code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
})

test('case S54: bytes that are wrong twice are 1, and the name is not given', async () => {
  flipBit(Number.POSITIVE_INFINITY)
  const { code, stdout } = await at.run('--json')
  expect(code).toBe(EXIT.failed)
  expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('hash_mismatch')
  expect(existsSync(at.target)).toBe(false)
})
