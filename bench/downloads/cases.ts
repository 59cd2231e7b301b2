import type { Measured } from './run-tool.ts'
import type { ServeOptions } from './serve.ts'

/** A number that a run gives; less is better in all of them. */
export type Figure = { readonly what: string; readonly of: (measured: Measured, sizeBytes: number) => number }

/** What is to be reached: a ratio to another tool's median, or a number. */
export type Goal = { readonly figure: Figure } & (
  { readonly times: number; readonly than: readonly string[] } | { readonly atMost: number }
)

export type Case = ServeOptions & {
  readonly title: string
  readonly tools: readonly string[]
  readonly goals: readonly Goal[]
  /** A tool whose time the server sets, not the machine: fewer runs say as much. */
  readonly seldom?: string
  /** Every run is killed when the server has sent half. */
  readonly isKilled?: boolean
}

const MIB = 2 ** 20
const one = (sizeBytes: number): ServeOptions['files'] => [{ name: 'model.dat', sizeBytes }]
const plain = { https: false, caps: null }

const seconds: Figure = { what: 's', of: (measured) => measured.seconds }
const twice: Figure = {
  what: 'MiB fetched twice',
  of: (measured, sizeBytes) => (measured.sentBytes - sizeBytes) / MIB,
}
const cpu: Figure = {
  what: 'CPU s a GB',
  of: (measured, sizeBytes) => measured.cpuSeconds / (sizeBytes / 1e9),
}
const memory: Figure = { what: 'MB of memory at most', of: (measured) => measured.peakBytes / 1e6 }

export const CASES: Readonly<Record<string, Case>> = {
  a: {
    title: 'one file of 2 GiB, as fast as it goes; all but aria2-raw and hf compare its hash',
    tools: ['agent', 'aria2', 'aria2-raw', 'hf'],
    files: one(2048 * MIB),
    ...plain,
    goals: [
      { figure: seconds, times: 1.8, than: ['aria2'] },
      { figure: seconds, times: 1, than: ['aria2-raw'] },
    ],
  },
  b: {
    title: '512 MiB, 70 % of the connections at 8 MiB/s, the rest at 64 MiB/s',
    tools: ['agent', 'aria2', 'hf'],
    files: one(512 * MIB),
    https: false,
    caps: { slow: 8 * MIB, fast: 64 * MIB, slowOfTen: 7 },
    seldom: 'hf',
    goals: [
      { figure: seconds, times: 1.5, than: ['aria2'] },
      { figure: seconds, times: 4, than: ['hf'] },
    ],
  },
  c: {
    title: '200 files of 4 MiB',
    tools: ['agent', 'aria2', 'hf'],
    files: Array.from({ length: 200 }, (_, index) => ({ name: `file-${index}.dat`, sizeBytes: 4 * MIB })),
    ...plain,
    goals: [{ figure: seconds, times: 1, than: ['aria2', 'hf'] }],
  },
  d: {
    title: 'SIGKILL at 50 % of 512 MiB, and once more to the end',
    tools: ['agent', 'aria2', 'hf'],
    files: one(512 * MIB),
    https: false,
    caps: { slow: 64 * MIB, fast: 64 * MIB, slowOfTen: 0 },
    isKilled: true,
    // One segment a connection: with 16 of them a segment of this file is 16 MiB.
    goals: [{ figure: twice, atMost: 16 * 16 }],
  },
  e: {
    title: 'one file of 1 GiB over TLS',
    tools: ['agent', 'aria2', 'hf'],
    files: one(1024 * MIB),
    https: true,
    caps: null,
    goals: [
      { figure: cpu, atMost: 1.3 },
      { figure: memory, atMost: 150 },
    ],
  },
}
