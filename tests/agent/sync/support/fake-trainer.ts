import { createHash } from 'node:crypto'
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createRandom } from './random.ts'

/*
 * A training that saves and rotates: `node fake-trainer.ts OPTIONS` with TrainerOptions as JSON. Some saves are written
 * in place and slowly, some elsewhere and renamed, some break off; some names are used again; some checkpoints are
 * removed at once, others after their life, some never. The journal tells of each version what it held and how long.
 */
export type TrainerOptions = {
  readonly folder: string
  readonly journal: string
  readonly seed: number
  readonly count: number
  readonly paceMs: number
  readonly lifeMs: number
}

/** A line of the journal: a save that is complete, or its end by removal or by being saved over. */
export type TrainerLine =
  | { readonly name: string; readonly version: number; readonly files: Readonly<Record<string, string>> }
  | { readonly name: string; readonly version: number; readonly livedMs: number }

const main = async ({ folder, journal, seed, count, paceMs, lifeMs }: TrainerOptions): Promise<void> => {
  const random = createRandom(seed)
  const alive = new Map<string, { version: number; sinceMs: number; dueMs: number }>()
  const note = (line: TrainerLine): void => appendFileSync(journal, `${JSON.stringify(line)}\n`)
  const remove = (name: string): void => {
    const one = alive.get(name)
    alive.delete(name)
    // Noted before: the life that counts has ended when the removal begins.
    if (one) note({ name, version: one.version, livedMs: performance.now() - one.sinceMs })
    rmSync(join(folder, name), { recursive: true, force: true })
  }
  for (let version = 1; version <= count; version += 1) {
    const kind = random()
    const isUsedAgain = kind > 0.97 && version > 40
    const name = `checkpoint-${isUsedAgain ? version - 30 : version}`
    if (isUsedAgain) remove(name)
    if (kind < 0.08) {
      mkdirSync(join(folder, name))
      writeFileSync(join(folder, name, 'training_args.bin'), '')
      writeFileSync(join(folder, name, 'model.safetensors'), weights(`${version}`, 3000).subarray(0, 1500))
      alive.set(name, {
        version: -1,
        sinceMs: performance.now(),
        dueMs: performance.now() + lifeMs * random(),
      })
    } else {
      const isRenamed = kind > 0.2 && kind < 0.4
      const sizeBytes = 500 + Math.floor(random() * 20_000)
      const files = await save(join(folder, isRenamed ? `tmp-${name}` : name), { version, sizeBytes })
      if (isRenamed) renameSync(join(folder, `tmp-${name}`), join(folder, name))
      note({ name, version, files })
      const sinceMs = performance.now()
      const fate = random()
      const livesMs =
        kind < 0.2 ? 150 * random() : fate < 0.8 ? lifeMs * (1 + 0.3 * fate) : Number.POSITIVE_INFINITY
      alive.set(name, { version, sinceMs, dueMs: sinceMs + livesMs })
    }
    await delay(paceMs * (0.5 + random()))
    for (const [other, { dueMs }] of alive) if (dueMs < performance.now()) remove(other)
  }
  for (const [name, { version }] of alive) if (version < 0) remove(name)
}

const save = async (
  folder: string,
  { version, sizeBytes }: { version: number; sizeBytes: number },
): Promise<Record<string, string>> => {
  mkdirSync(folder)
  const model = weights(`model ${version}`, sizeBytes)
  const file = openSync(join(folder, 'model.safetensors'), 'w')
  writeSync(file, model.subarray(0, sizeBytes / 2))
  await delay(2)
  writeSync(file, model.subarray(sizeBytes / 2))
  closeSync(file)
  const optimizer = weights(`optimizer ${version}`, sizeBytes)
  writeFileSync(join(folder, 'optimizer.safetensors'), optimizer)
  const state = JSON.stringify({ global_step: Number(folder.split('-').at(-1)), version })
  writeFileSync(join(folder, 'trainer_state.json'), state)
  return {
    'model.safetensors': sha256(model),
    'optimizer.safetensors': sha256(optimizer),
    'trainer_state.json': sha256(state),
  }
}

const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex')

const weights = (seed: string, dataBytes: number): Buffer => {
  const header = Buffer.from(
    JSON.stringify({ w: { dtype: 'U8', shape: [dataBytes], data_offsets: [0, dataBytes] } }),
  )
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, Buffer.alloc(dataBytes, createHash('sha256').update(seed).digest())])
}

await main(JSON.parse(process.argv[2] ?? '') as TrainerOptions)
