import type { ProgressItem, ProgressView } from '../output/progress.ts'

/** Speed is that of the last seconds: an average since the start would hide a link that has become slow. */
const WINDOW_MS = 10_000
/** Pieces arrive thousands of times a second; they are counted and shown in steps of this. */
const STEP_MS = 200

export type Meter = {
  /** Bytes that came over the wire; negative when they were thrown away. */
  received(bytes: number, path: string): void
  /** Bytes that need not come: they are here and proven. */
  reused(bytes: number, path: string): void
}

/** Keeps the amount and the speed of a pull and shows them. */
export const createMeter = (
  title: string,
  deps: { files: readonly { path: string; sizeBytes: number }[]; view: ProgressView },
): Meter => {
  const { files, view } = deps
  const total = files.reduce((sum, file) => sum + file.sizeBytes, 0)
  const rows = new Map(files.map((file) => [file.path, { done: 0, total: file.sizeBytes }]))
  let done = 0
  let samples: { atMs: number; bytes: number }[] = []
  let shownMs = Number.NEGATIVE_INFINITY

  const add = (bytes: number, path: string): void => {
    done += bytes
    const row = rows.get(path)
    if (row) row.done += bytes
    if (performance.now() - shownMs < STEP_MS) return
    shownMs = performance.now()
    view.show({ whole: picture(), items: moving() })
  }
  const speed = (): number => {
    const nowMs = performance.now()
    samples = samples.filter(({ atMs }) => nowMs - atMs < WINDOW_MS)
    const spanMs = Math.max(1000, nowMs - (samples[0]?.atMs ?? nowMs))
    return Math.max(0, (1000 * samples.reduce((sum, { bytes }) => sum + bytes, 0)) / spanMs)
  }
  const picture = (): ProgressItem => {
    const bytesPerSecond = speed()
    const etaSeconds = bytesPerSecond > 0 ? (total - done) / bytesPerSecond : null
    return { name: title, state: 'pulling', bytesDone: done, bytesTotal: total, bytesPerSecond, etaSeconds }
  }
  const moving = (): ProgressItem[] =>
    [...rows]
      .filter(([, row]) => row.done > 0 && row.done < row.total)
      .map(([path, row]) => ({
        name: path,
        state: '',
        bytesDone: row.done,
        bytesTotal: row.total,
        bytesPerSecond: 0,
        etaSeconds: null,
      }))

  return {
    received: (bytes, path) => {
      const atMs = performance.now()
      const last = samples.at(-1)
      if (last !== undefined && atMs - last.atMs < STEP_MS) last.bytes += bytes
      else samples.push({ atMs, bytes })
      add(bytes, path)
    },
    reused: add,
  }
}
