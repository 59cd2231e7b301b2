import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { runAgentctl, startAgentctl } from './agentctl.ts'
import type { MadeCheckpoint } from './checkpoint.ts'
import { makeCheckpoint } from './checkpoint.ts'
import type { FixedBox } from './fixed-box.ts'
import { startFixedBox } from './fixed-box.ts'

export const MIB = 2 ** 20
/** Chunks of the checkpoint below: 5 of the weights, 2 of the optimizer, 1 of the state; the empty file has none. */
export const CHUNKS = 8
export const NAME = 'checkpoint-500'

/** A box with one checkpoint, and a folder that gets it. */
export type Pull = Awaited<ReturnType<typeof createPull>>

export const createPull = async () => {
  const box: FixedBox = await startFixedBox()
  const made: MadeCheckpoint = makeCheckpoint(join(box.home, 'source'), {
    'model.safetensors': 40 * MIB,
    'state/optimizer.bin': 8 * MIB + 5,
    'trainer_state.json': '{"step": 500}',
    empty: 0,
  })
  box.records.checkpoint = made
  const to = join(box.home, 'to')
  mkdirSync(to)
  const target = join(to, NAME)
  const start = (...args: string[]) =>
    startAgentctl(['pull-checkpoint', 'latest', '--to', to, ...args], { env: box.env })
  const journalled = (): number => {
    const journal = join(`${target}.partial`, 'journal.jsonl')
    return existsSync(journal) ? readFileSync(journal, 'utf8').split('\n').filter(Boolean).length : 0
  }

  const pull = {
    box,
    made,
    to,
    /** Where the checkpoint lies in the end. */
    target,
    /** `pull-checkpoint latest` to its end. */
    run: (...args: string[]) =>
      runAgentctl(['pull-checkpoint', 'latest', '--to', to, ...args], { env: box.env }),
    start,
    /** Requests for chunks so far. */
    chunkRequests: (): number => box.requests.filter(({ url }) => isChunk(url)).length,
    waitForChunks: async (count: number): Promise<void> => {
      while (journalled() !== count) await delay(20)
    },
    /** Answers `count` chunks and holds the others; the returned function lets everything pass again. */
    holdAfter: (count: number): (() => void) => {
      let passed = 0
      box.intercept = ({ url }) => isChunk(url) && (passed += 1) > count
      return () => {
        box.intercept = () => false
      }
    },
    /** A pull that was killed after three chunks. */
    killed: async (): Promise<void> => {
      const release = pull.holdAfter(3)
      const first = start()
      await pull.waitForChunks(3)
      first.child.kill('SIGKILL')
      await first.ended
      release()
      box.requests.length = 0
    },
  }
  return pull
}

export const isChunk = (url: string | undefined): boolean => url?.includes('/file?') === true
