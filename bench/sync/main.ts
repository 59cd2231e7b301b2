/*
 * What sync and pull cost beside the bare tools: `npm run bench:sync -- [--gb 2] [--files 10000] [--only copy,many,lag,pull,watch]`.
 * Everything is loopback and page cache, so the work of hashing and proving shows in full. Other work on the machine
 * disturbs the numbers; the load at the start is printed for that.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { compareCopy, measureLag } from './copy.ts'
import { measurePull } from './pull.ts'
import { measureWatch } from './watch.ts'
import { writeLarge, writeMany } from './world.ts'

const { values } = parseArgs({
  options: {
    gb: { type: 'string', default: '2' },
    files: { type: 'string', default: '10000' },
    only: { type: 'string', default: 'copy,many,lag,pull,watch' },
  },
})
const only = values.only.split(',')
console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}`)
const folder = mkdtempSync(join(tmpdir(), 'gpu-agent-bench-'))
try {
  const large = join(folder, 'large')
  if (only.includes('copy') || only.includes('pull'))
    writeLarge(join(large, 'checkpoint-1', 'model.bin'), Number(values.gb) * 1e9)
  if (only.includes('copy'))
    await compareCopy(`a checkpoint of ${values.gb} GB takes`, { source: large, folder })
  if (only.includes('pull')) await measurePull({ source: large, folder })
  rmSync(large, { recursive: true, force: true })
  const many = join(folder, 'many')
  if (only.includes('many')) {
    writeMany(join(many, 'set'), Number(values.files))
    await compareCopy(`${values.files} small files take`, { source: many, folder })
  }
  if (only.includes('lag')) await measureLag(folder)
  if (only.includes('watch')) await measureWatch(folder)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
