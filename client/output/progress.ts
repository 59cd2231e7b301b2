import { formatDuration, formatSize } from '../../shared/contract/units.ts'
import type { OutputStream } from './stream.ts'
import type { Text } from './text.ts'
import { cleanText, paint } from './text.ts'

export type ProgressItem = {
  readonly name: string
  readonly state: string
  readonly bytesDone: number
  readonly bytesTotal: number | null
  readonly bytesPerSecond: number
  readonly etaSeconds: number | null
}

/** What is shown while something large moves: the whole first, then what moves right now. */
export type ProgressPicture = { readonly whole: ProgressItem; readonly items: readonly ProgressItem[] }

export type ProgressView = {
  /** Shows the newest picture: bars on a terminal, else one plain line every 5 s. */
  show(picture: ProgressPicture): void
  /** A line that stays, above the bars. */
  note(...parts: readonly Text[]): void
  /** Takes the bars away. May be called twice. */
  close(): void
}

/** A plain line this often, so that a log of a long transfer stays readable. */
const PLAIN_EVERY_MS = 5_000
/** Faster drawing is not seen and costs an ssh session. */
const DRAW_EVERY_MS = 200
/** More files at once than anybody reads. */
const MAX_ITEMS = 8

export const createProgress = (deps: {
  readonly stream: OutputStream
  readonly colour: boolean
}): ProgressView => (deps.stream.isTTY === true ? barView(deps) : plainView(deps))

const plainView = ({ stream, colour }: { stream: OutputStream; colour: boolean }): ProgressView => {
  let lastMs = Number.NEGATIVE_INFINITY
  return {
    show: ({ whole }) => {
      if (performance.now() - lastMs < PLAIN_EVERY_MS) return
      lastMs = performance.now()
      stream.write(`${cleanText(`${whole.name}: ${whole.state} ${amount(whole)}`.trimEnd())}\n`)
    },
    note: (...parts) => {
      stream.write(`${parts.map((part) => paint(part, colour)).join('')}\n`)
    },
    close: () => undefined,
  }
}

const barView = ({ stream, colour }: { stream: OutputStream; colour: boolean }): ProgressView => {
  let drawn = 0
  let lastMs = Number.NEGATIVE_INFINITY
  let latest: ProgressPicture | undefined
  const erase = (): void => {
    if (drawn > 0) stream.write(`\u001b[${drawn}A\u001b[J`)
    drawn = 0
  }
  const draw = (): void => {
    if (latest === undefined) return
    const columns = stream.columns ?? 80
    const rows = barLines([latest.whole, ...latest.items.slice(0, MAX_ITEMS)], columns)
    erase()
    stream.write(rows.map((row) => `${row}\n`).join(''))
    drawn = rows.length
  }
  return {
    show: (picture) => {
      latest = picture
      if (performance.now() - lastMs < DRAW_EVERY_MS) return
      lastMs = performance.now()
      draw()
    },
    note: (...parts) => {
      erase()
      stream.write(`${parts.map((part) => paint(part, colour)).join('')}\n`)
      draw()
    },
    close: () => {
      erase()
      latest = undefined
    },
  }
}

const BAR_COLUMNS = 20

/** One line an item, the bars below each other, none wider than the terminal. */
const barLines = (items: readonly ProgressItem[], columns: number): string[] => {
  const tails = items.map((item) => ` ${barOf(item)} ${cleanText(item.state)} ${amount(item)}`)
  const names = items.map(({ name }) => cleanText(name))
  const room = columns - 1 - Math.max(...tails.map(({ length }) => length))
  const width = Math.max(8, Math.min(room, Math.max(...names.map(({ length }) => length))))
  return names.map((name, index) =>
    `${shorten(name, width).padEnd(width)}${tails[index] ?? ''}`.slice(0, columns - 1),
  )
}

const barOf = ({ bytesDone, bytesTotal }: ProgressItem): string => {
  const share = bytesTotal ? Math.min(1, bytesDone / bytesTotal) : 0
  const filled = Math.round(share * BAR_COLUMNS)
  return `[${'#'.repeat(filled)}${'-'.repeat(BAR_COLUMNS - filled)}]`
}

/** Keeps the end of a path, which tells files apart. */
const shorten = (name: string, room: number): string =>
  name.length <= room ? name : `…${name.slice(name.length - room + 1)}`

/** `1.2 GB of 28.6 GB (4 %), 120.0 MB/s, 3 min 50 s left`; empty where there is nothing to count. */
export const amount = (item: Omit<ProgressItem, 'name' | 'state'>): string => {
  const { bytesDone, bytesTotal, bytesPerSecond, etaSeconds } = item
  // Nothing to fetch, or nothing known of it yet: the state says enough.
  if (!bytesTotal && bytesDone === 0) return ''
  const percent = bytesTotal ? ` (${Math.floor((100 * bytesDone) / bytesTotal)} %)` : ''
  const total = bytesTotal === null ? '' : ` of ${formatSize(bytesTotal)}${percent}`
  const speed = bytesPerSecond > 0 ? `, ${formatSize(Math.round(bytesPerSecond))}/s` : ''
  const left = etaSeconds === null || bytesPerSecond <= 0 ? '' : `, ${formatDuration(etaSeconds * 1000)} left`
  return `${formatSize(bytesDone)}${total}${speed}${left}`
}
