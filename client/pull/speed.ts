import type { ProgressItem, ProgressView } from '../output/progress.ts'

/** Speed is that of the last seconds: an average since the start would hide a link that has become slow. */
const WINDOW_MS = 10_000
/** Pieces arrive thousands of times a second; they are counted and shown in steps of this. */
const STEP_MS = 200
/** The first bytes tell nothing of how long the rest will take. */
const SURE_AFTER_MS = 2_000

export type Meter = {
  /** Bytes that came over the wire; negative when they were thrown away. */
  received(bytes: number, path: string): void
  /** Bytes that need not come: they are here and proven. */
  reused(bytes: number, path: string): void
  /** Nothing comes until the next byte does. @returns false where that is known already */
  waits(): boolean
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
  let isWaiting = false
  let startedMs: number | undefined

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
    const isKnown =
      !isWaiting && bytesPerSecond > 0 && performance.now() - (startedMs ?? Infinity) > SURE_AFTER_MS
    return {
      name: title,
      state: isWaiting ? 'waiting for the box' : 'pulling',
      bytesDone: done,
      bytesTotal: total,
      bytesPerSecond: isWaiting ? 0 : bytesPerSecond,
      etaSeconds: isKnown ? (total - done) / bytesPerSecond : null,
    }
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
      if (bytes > 0) {
        startedMs ??= atMs
        isWaiting = false
      }
      const last = samples.at(-1)
      if (last !== undefined && atMs - last.atMs < STEP_MS) last.bytes += bytes
      else samples.push({ atMs, bytes })
      add(bytes, path)
    },
    reused: add,
    waits: () => {
      const isNew = !isWaiting
      isWaiting = true
      startedMs = undefined
      view.show({ whole: picture(), items: moving() })
      return isNew
    },
  }
}
