/*
 * The download engine beside aria2c and Hugging Face's hf, from a hub on loopback:
 *
 *   node bench/downloads/main.ts [--only a,b,c,d,e] [--rounds 3] [--hf PATH] [--folder FOLDER]
 *
 *   a  one file of 2 GiB, as fast as it goes           b  512 MiB, 70 % of the connections at 8 MiB/s, the rest at 64
 *   c  200 files of 4 MiB                              d  bytes fetched twice after SIGKILL at 50 %
 *   e  CPU seconds a GB over TLS, and memory
 *
 * Every result is hashed. Rounds of all tools take turns, and medians are compared, so that other work on the machine
 * meets them alike; it still disturbs the numbers, and the load at the start is printed for that.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { median } from '../measure.ts'
import { type Measured, runTool, startServer } from './run-tool.ts'
import type { ServeOptions } from './serve.ts'
import { aria2, hf, isThere, prepareAgent, type Tool } from './tools.ts'

const MIB = 2 ** 20
const one = (sizeBytes: number): ServeOptions['files'] => [{ name: 'model.dat', sizeBytes }]
const caps = { slow: 8 * MIB, fast: 64 * MIB, slowOfTen: 7 }

type Figure = { readonly what: string; readonly of: (measured: Measured, sizeBytes: number) => number }
const seconds: Figure = { what: 's', of: (measured) => measured.seconds }
const CASES: Readonly<
  Record<
    string,
    ServeOptions & { readonly title: string; readonly goal: string; readonly figures: readonly Figure[] }
  >
> = {
  a: {
    title: 'one file of 2 GiB, unthrottled, verified',
    goal: '1.8 x aria2',
    files: one(2048 * MIB),
    https: false,
    caps: null,
    figures: [seconds],
  },
  b: {
    title: '512 MiB, 70 % of the connections at 8 MiB/s, the rest at 64 MiB/s',
    goal: '1.5 x aria2, 4 x hf',
    files: one(512 * MIB),
    https: false,
    caps,
    figures: [seconds],
  },
  c: {
    title: '200 files of 4 MiB',
    goal: 'as fast as the best',
    files: Array.from({ length: 200 }, (_, index) => ({ name: `file-${index}.dat`, sizeBytes: 4 * MIB })),
    https: false,
    caps: null,
    figures: [seconds],
  },
  d: {
    title: 'SIGKILL at 50 % of 512 MiB',
    goal: 'one segment a connection',
    files: one(512 * MIB),
    https: false,
    caps: { slow: 64 * MIB, fast: 64 * MIB, slowOfTen: 0 },
    figures: [{ what: 'MiB fetched twice', of: (measured, size) => (measured.sentBytes - size) / MIB }],
  },
  e: {
    title: 'one file of 1 GiB over TLS',
    goal: '1.3 CPU s a GB, 150 MB',
    files: one(1024 * MIB),
    https: true,
    caps: null,
    figures: [
      { what: 'CPU s a GB', of: (measured, size) => measured.cpuSeconds / (size / 1e9) },
      { what: 'MB at most', of: (measured) => measured.peakBytes / 1e6 },
    ],
  },
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'a,b,c,d,e' },
    rounds: { type: 'string', default: '3' },
    hf: { type: 'string', default: 'hf' },
    folder: { type: 'string', default: tmpdir() },
  },
})

const tools: Tool[] = [await prepareAgent()]
if (isThere('aria2c')) tools.push(aria2)
else console.log('aria2 is left out: there is no aria2c program')
if (isThere(values.hf)) tools.push(hf(values.hf))
else console.log(`hf is left out: there is no ${values.hf} program (--hf names another)`)
console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}, ${values.rounds} rounds`)

const parent = mkdtempSync(join(values.folder, 'bench-downloads-'))
try {
  for (const key of values.only.split(',')) {
    const chosen = CASES[key]
    if (chosen === undefined) throw new Error(`there is no case ${key}`)
    const sizeBytes = chosen.files.reduce((sum, file) => sum + file.sizeBytes, 0)
    const results = new Map(tools.map((tool) => [tool.name, [] as Measured[]]))
    const { served, stop } = await startServer(chosen)
    try {
      for (let round = 0; round < Number(values.rounds); round += 1)
        for (const tool of tools) {
          const killAtBytes = key === 'd' ? { killAtBytes: sizeBytes / 2 } : {}
          results.get(tool.name)?.push(await runTool(tool, { served, parent, ...killAtBytes }))
        }
    } finally {
      stop()
    }
    console.log(`\n${key}  ${chosen.title} (goal: ${chosen.goal})`)
    for (const { what, of } of chosen.figures) {
      const medians = tools.map(({ name }) => ({
        name,
        value: median((results.get(name) ?? []).map((measured) => of(measured, sizeBytes))),
      }))
      const own = medians[0]?.value ?? 0
      for (const { name, value } of medians) {
        const ratio = name === 'agent' ? '' : `   agent is ${(value / own).toFixed(2)} x better`
        console.log(`   ${name.padEnd(6)} ${value.toFixed(2).padStart(9)} ${what}${key === 'd' ? '' : ratio}`)
      }
    }
  }
} finally {
  rmSync(parent, { recursive: true, force: true })
}
