import type { Text } from './text.ts'
import { dim, widthOf } from './text.ts'

/** One line of output: its pieces. */
export type Line = readonly Text[]

/** Lines of a table with a dim head; the columns are as wide as their widest cell. Empty rows give no lines. */
export const tableLines = (head: readonly string[], rows: readonly (readonly Text[])[]): Line[] => {
  if (rows.length === 0) return []
  const all = [head.map((title) => dim(title)), ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => widthOf(row[column] ?? ''))))
  return all.map((row) => joinCells(row, widths))
}

const joinCells = (row: readonly Text[], widths: readonly number[]): Line =>
  row.flatMap((cell, column) => {
    const last = column === row.length - 1
    const gap = (widths[column] ?? 0) - widthOf(cell) + 2
    return last ? [cell] : [cell, ' '.repeat(gap)]
  })
