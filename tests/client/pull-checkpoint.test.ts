import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
  closeSync,
} from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'
import type { MadeCheckpoint } from '../support/checkpoint.ts'
import { describeCheckpoint, holds, makeCheckpoint } from '../support/checkpoint.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { startFixedBox } from '../support/fixed-box.ts'

const MIB = 2 ** 20
/** Chunks of the checkpoint below: 5 of the weights, 2 of the optimizer, 1 of the state; the empty file has none. */
const CHUNKS = 8
const NAME = 'checkpoint-500'

let box: FixedBox
let made: MadeCheckpoint
let to: string
beforeEach(async () => {
  box = await startFixedBox()
  made = makeCheckpoint(join(box.home, 'source'), {
    'model.safetensors': 40 * MIB,
    'state/optimizer.bin': 8 * MIB + 5,
    'trainer_state.json': '{"step": 500}',
    empty: 0,
  })
  box.records.checkpoint = made
  to = join(box.home, 'to')
  mkdirSync(to)
})
afterEach(() => box.close())

const target = (): string => join(to, NAME)
const pull = (...args: string[]) =>
  runAgentctl(['pull-checkpoint', 'latest', '--to', to, ...args], { env: box.env })
const startPull = (...args: string[]) =>
  startAgentctl(['pull-checkpoint', 'latest', '--to', to, ...args], { env: box.env })

const isChunk = (url: string | undefined): boolean => url?.includes('/file?') === true
const chunkRequests = (): number => box.requests.filter(({ url }) => isChunk(url)).length
const journalled = (): number => {
  const journal = join(`${target()}.partial`, 'journal.jsonl')
  return existsSync(journal) ? readFileSync(journal, 'utf8').split('\n').filter(Boolean).length : 0
}
const waitFor = async (isTrue: () => boolean): Promise<void> => {
  while (!isTrue()) await delay(20)
}

/** Answers `count` chunks and holds the others; the returned function lets everything pass again. */
const holdAfter = (count: number): (() => void) => {
  let passed = 0
  box.intercept = ({ url }) => isChunk(url) && (passed += 1) > count
  return () => {
    box.intercept = () => false
  }
}

/** A pull that was killed after three chunks. */
const killedPull = async (): Promise<void> => {
  const release = holdAfter(3)
  const first = startPull()
  await waitFor(() => journalled() === 3)
  first.child.kill('SIGKILL')
  await first.ended
  release()
  box.requests.length = 0
}

test('a checkpoint arrives whole under its name, and nothing else is left', async () => {
  const { code, stdout, stderr } = await pull('--json')
  expect(stderr).toContain(made.files.digest)
  expect(code).toBe(EXIT.done)
  expect(JSON.parse(stdout)).toMatchObject({
    checkpoint: { name: NAME, digest: made.files.digest, path: target() },
  })
  expect(holds(target(), made)).toBe(true)
  expect(readdirSync(to)).toEqual([NAME])
  expect(chunkRequests()).toBe(CHUNKS)
})

test('what is here already is proven and not fetched again', async () => {
  await pull()
  box.requests.length = 0
  const { code, stdout } = await pull()
  expect(code).toBe(EXIT.done)
  expect(stdout).toContain('here already')
  expect(chunkRequests()).toBe(0)
})

test('a new version keeps the old one aside and fetches only what changed', async () => {
  await pull()
  writeFileSync(join(target(), 'model.safetensors'), 'broken here')
  box.requests.length = 0
  const { code, stdout } = await pull()
  expect(code).toBe(EXIT.done)
  expect(holds(target(), made)).toBe(true)
  expect(chunkRequests()).toBe(5)
  const aside = readdirSync(to).find((name) => name.startsWith(`${NAME}.previous-`)) ?? ''
  expect(stdout).toContain(aside)
  expect(readFileSync(join(to, aside, 'model.safetensors'), 'utf8')).toBe('broken here')
})

test('a checkpoint that is a single file lands under its own name, also in a run', async () => {
  const single = makeCheckpoint(
    join(box.home, 'single'),
    { 'epoch=1.ckpt': 9 * MIB },
    'run-1/checkpoints/epoch=1.ckpt',
  )
  box.records.checkpoint = { ...single, files: { ...single.files, kind: 'file' } }
  expect((await pull()).code).toBe(EXIT.done)
  const path = join(to, 'run-1/checkpoints/epoch=1.ckpt')
  expect(readFileSync(path)).toEqual(readFileSync(join(single.folder, 'epoch=1.ckpt')))
  expect(readdirSync(join(to, 'run-1/checkpoints'))).toEqual(['epoch=1.ckpt'])
  expect((await pull()).stdout).toContain('here already')
})

test('a checkpoint of a run lands in the folder of the run', async () => {
  box.records.checkpoint = { ...made, files: { ...made.files, name: 'run-1/checkpoint-500' } }
  const { code } = await runAgentctl(['pull-checkpoint', 'run-1/checkpoint-500', '--to', to], {
    env: box.env,
  })
  expect(code).toBe(EXIT.done)
  expect(holds(join(to, 'run-1/checkpoint-500'), made)).toBe(true)
})

describe('what goes wrong on this side', () => {
  test('case S45: a pull that was killed goes on where it was', async () => {
    await killedPull()
    expect(existsSync(target())).toBe(false)
    const { code } = await pull()
    expect(code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
    expect(chunkRequests()).toBe(CHUNKS - 3)
    expect(readdirSync(to)).toEqual([NAME])
  })

  test('case S46: a part that was damaged between two attempts is fetched again, and no other', async () => {
    await killedPull()
    const journal = readFileSync(join(`${target()}.partial`, 'journal.jsonl'), 'utf8')
    const line = JSON.parse(journal.split('\n').find(Boolean) ?? '') as { file: string; chunk: number }
    const path = line.file.slice(line.file.indexOf(' ') + 1)
    const file = openSync(join(`${target()}.partial`, 'files', path), 'r+')
    writeSync(file, Buffer.alloc(4), 0, 4, line.chunk * 8 * MIB)
    closeSync(file)
    const { code } = await pull()
    expect(code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
    expect(chunkRequests()).toBe(CHUNKS - 2)
  })

  test('a journal whose last line was torn costs that chunk and no more', async () => {
    await killedPull()
    const journal = join(`${target()}.partial`, 'journal.jsonl')
    writeFileSync(journal, readFileSync(journal, 'utf8').slice(0, -20))
    const { code } = await pull()
    expect(code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
    expect(chunkRequests()).toBe(CHUNKS - 2)
  })

  const isRoot = process.getuid?.() === 0
  test.skipIf(!isRoot)(
    'case S51 (needs root for a small file system): a disk that is too small is 3, before a byte is fetched',
    async () => {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', to])
      try {
        const { code, stdout } = await pull('--json')
        expect(code).toBe(EXIT.refused)
        expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('disk_too_small')
        expect(chunkRequests()).toBe(0)
        expect(existsSync(target())).toBe(false)
      } finally {
        execFileSync('umount', [to])
      }
    },
  )

  test('two pulls do not work on one folder: the second is refused with 8', async () => {
    const release = holdAfter(1)
    const first = startPull()
    await waitFor(() => journalled() === 1)
    const second = await pull()
    expect(second.code).toBe(EXIT.busy)
    expect(second.stderr).toContain(`process ${first.child.pid ?? ''}`)
    first.child.kill('SIGINT')
    expect((await first.ended).code).toBe(EXIT.interrupted)
    release()
    expect((await pull()).code).toBe(EXIT.done)
  })

  test('case S52: a machine that sleeps while its connections die goes on when it wakes', async () => {
    const release = holdAfter(2)
    const sleeper = startPull()
    await waitFor(() => journalled() === 2)
    sleeper.child.kill('SIGSTOP')
    await box.stop()
    release()
    await box.start()
    sleeper.child.kill('SIGCONT')
    expect((await sleeper.ended).code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
  })
})

test('a lock whose process id belongs to another process by now is taken over', async () => {
  const partial = `${target()}.partial`
  mkdirSync(partial)
  writeFileSync(join(partial, 'lock'), `${process.pid} a-boot-long-ago:1\n`)
  expect((await pull()).code).toBe(EXIT.done)
})

test('a --to that is a file, and an empty name, are mistakes of the command line', async () => {
  const file = join(box.home, 'a-file')
  writeFileSync(file, '')
  for (const args of [
    ['pull-checkpoint', '--to', file],
    ['pull-checkpoint', '', '--to', to],
  ]) {
    const { code, stderr } = await runAgentctl(args, { env: box.env })
    expect(code).toBe(EXIT.usage)
    expect(stderr).toMatch(/^error: .+\ntry: .+\n$/)
  }
})

describe('what goes wrong on the box', () => {
  test('case S47: a checkpoint that is gone in mid-pull is looked for, then told as changed', async () => {
    const release = holdAfter(6)
    const running = startPull()
    await waitFor(() => journalled() === 6)
    const { checkpoint } = box.records
    box.records.checkpoint = undefined
    release()
    await running.printed('resolving it again')
    box.records.checkpoint = checkpoint
    expect((await running.ended).code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
  })

  test('case S47: a file that is replaced in mid-pull is noticed, and what is still equal is kept', async () => {
    const release = holdAfter(6)
    const running = startPull()
    await waitFor(() => journalled() === 6)
    writeFileSync(join(made.folder, 'trainer_state.json'), '{"step": 501}')
    const changed = makeCheckpoint(join(box.home, 'other'), { 'trainer_state.json': '{"step": 501}' })
    const [newState] = changed.files.files
    made = describeCheckpoint({
      folder: made.folder,
      name: NAME,
      files: made.files.files.map((file) => (file.path === newState?.path ? newState : file)),
    })
    box.records.checkpoint = made
    release()
    await box.stop()
    await box.start()
    const { code, stderr } = await running.ended
    expect(stderr).toContain('changed on the box; resolving it again')
    expect(code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
    const weights = box.requests.filter(
      ({ url, headers }) => url.includes('model') && headers.range === 'bytes=0-8388607',
    )
    expect(weights).toHaveLength(1)
  })

  test('case S47: of a file with another version here only what differs is fetched, though its header grew', async () => {
    const folder = join(box.home, 'tensors')
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
    box.records.checkpoint = describeIt()
    expect((await pull()).code).toBe(EXIT.done)
    data.fill(7, 20 * MIB, 20 * MIB + 100)
    write('{"__metadata__":{"step":"200"}}')
    const changed = describeIt()
    box.records.checkpoint = changed
    box.requests.length = 0
    expect((await pull()).code).toBe(EXIT.done)
    expect(holds(target(), changed)).toBe(true)
    expect(chunkRequests()).toBe(2)
  })

  test('case S47: a checkpoint that never rests is given up with 1', async () => {
    box.intercept = ({ url }, response) => {
      if (!isChunk(url)) return false
      response.writeHead(200, { etag: '"sha256-another"' }).end('another')
      return true
    }
    const { code, stdout } = await pull('--json')
    expect(code).toBe(EXIT.failed)
    expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('checkpoint_changed')
    expect(existsSync(target())).toBe(false)
  })

  test('case S48: an agent that restarts in mid-pull costs no chunk that has arrived', async () => {
    const release = holdAfter(4)
    const running = startPull()
    await waitFor(() => journalled() === 4)
    await box.stop()
    release()
    box.requests.length = 0
    await running.printed('trying again')
    await box.start()
    const { code } = await running.ended
    expect(code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
    expect(chunkRequests()).toBe(CHUNKS - 4)
  })

  const isFirst = (asked: Set<string>, { url, headers }: IncomingMessage): boolean => {
    const key = `${url ?? ''} ${headers.range ?? ''}`
    if (!isChunk(url) || asked.has(key)) return false
    asked.add(key)
    return true
  }
  const etagOf = ({ url }: IncomingMessage): string => {
    const path = new URL(url ?? '', 'http://x').searchParams.get('path')
    return `"sha256-${made.files.files.find((file) => file.path === path)?.sha256 ?? ''}"`
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
      box.intercept = (request, response) => {
        if (!isFirst(asked, request)) return false
        answer(request, response)
        return true
      }
      const { code } = await pull()
      expect(code).toBe(EXIT.done)
      expect(holds(target(), made)).toBe(true)
    },
  )

  test.each(WRONG)(
    'case S49: something that always answers $name ends the pull with 1',
    async ({ answer }) => {
      box.intercept = (request, response) => {
        if (!isChunk(request.url)) return false
        answer(request, response)
        return true
      }
      const { code, stdout } = await pull('--json')
      expect(code).toBe(EXIT.failed)
      expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('source_refused')
      expect(existsSync(target())).toBe(false)
    },
  )

  test('case S50: a wrong token is 4 and nothing is written', async () => {
    const env = { ...box.env, AGENTCTL_TOKEN: 'wrong.token' }
    const { code } = await runAgentctl(['pull-checkpoint', '--to', to], { env })
    expect(code).toBe(EXIT.notAuthenticated)
    expect(readdirSync(to)).toEqual([])
  })

  test('a checkpoint that does not exist is 6', async () => {
    expect((await runAgentctl(['pull-checkpoint', 'nothing', '--to', to], { env: box.env })).code).toBe(
      EXIT.notFound,
    )
  })

  test.each(['../evil', '/etc/evil', 'a/../../evil', 'a//b', '..', 'a\\b', 'C:/evil', 'a\u0000b'])(
    'case S50: a box that names the file %j is refused, and nothing is written',
    async (path) => {
      const [file] = made.files.files
      box.records.checkpoint = describeCheckpoint({ ...made, name: NAME, files: [{ ...file!, path }] })
      const { code, stdout } = await pull('--json')
      expect(code).toBe(EXIT.refused)
      expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('unsafe_path')
      expect(readdirSync(to)).toEqual([])
    },
  )

  test('case S50: a box that names the checkpoint itself outside the folder is refused', async () => {
    box.records.checkpoint = describeCheckpoint({ ...made, name: '../evil', files: made.files.files })
    expect((await pull()).code).toBe(EXIT.refused)
    expect(existsSync(join(box.home, 'evil'))).toBe(false)
    expect(existsSync(join(box.home, 'evil.partial'))).toBe(false)
  })

  /** Answers the first chunk of the weights with one bit flipped, as often as asked. */
  const flipBit = (times: number): void => {
    let flipped = 0
    const bytes = readFileSync(join(made.folder, 'model.safetensors')).subarray(0, 8 * MIB)
    const wrong = Buffer.from(bytes)
    wrong.writeUInt8(wrong.readUInt8(1000) ^ 1, 1000)
    box.intercept = (request, response) => {
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
    const { code } = await pull()
    expect(code).toBe(EXIT.done)
    expect(holds(target(), made)).toBe(true)
  })

  test('case S54: bytes that are wrong twice are 1, and the name is not given', async () => {
    flipBit(Number.POSITIVE_INFINITY)
    const { code, stdout } = await pull('--json')
    expect(code).toBe(EXIT.failed)
    expect((JSON.parse(stdout) as { error: { code: string } }).error.code).toBe('hash_mismatch')
    expect(existsSync(target())).toBe(false)
  })
})

describe('--watch', () => {
  test('brings each new checkpoint, also after the agent was away, and status shows it', async () => {
    const watching = startPull('--watch', '--every', '1s', '--json')
    await watching.printed(`"${NAME}"`)
    const next = makeCheckpoint(join(box.home, 'next'), { 'model.safetensors': 'next' }, 'checkpoint-1000')
    await box.stop()
    await watching.printed('trying again')
    box.records.checkpoint = next
    await box.start()
    await watching.printed('"checkpoint-1000"')
    watching.child.kill('SIGINT')
    const { code, stdout } = await watching.ended
    expect(code).toBe(EXIT.interrupted)
    expect(stdout.trim().split('\n')).toHaveLength(2)
    expect(holds(target(), made)).toBe(true)
    expect(holds(join(to, 'checkpoint-1000'), next)).toBe(true)
    const status = await runAgentctl(['status', '--json'], { env: box.env })
    const { pulls } = JSON.parse(status.stdout) as { pulls: { lastSuccessAt: string | null }[] }
    expect(pulls).toMatchObject([{ name: 'latest', to, checkpoint: 'checkpoint-1000', problem: null }])
    expect(pulls[0]?.lastSuccessAt).toMatch(/^\d{4}-/)
    // Whoever ended it with Ctrl-C expects nothing more of it.
    expect(pulls).toMatchObject([{ everySeconds: null, late: false }])
  })

  test('with a token that is not known it ends with 4 at once', async () => {
    const env = { ...box.env, AGENTCTL_TOKEN: 'wrong.token' }
    expect((await runAgentctl(['pull-checkpoint', '--to', to, '--watch'], { env })).code).toBe(
      EXIT.notAuthenticated,
    )
  })
})
