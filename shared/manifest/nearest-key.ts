/**
 * The known word that was most likely meant, or undefined: equal but for case, “-” and “_”, or at most two slips
 * away (a letter too many, missing, wrong, or two swapped), one slip for words of up to three letters.
 */
export const nearestKey = (word: string, known: readonly string[]): string | undefined => {
  // Nobody mistypes a key of hundreds of letters; measuring it would only cost time.
  if (word.length > 60) return undefined
  const reach = word.length <= 3 ? 1 : 2
  let best: { readonly key: string; readonly slips: number } | undefined
  for (const key of known) {
    const slips = plain(key) === plain(word) ? 0 : countSlips(word.toLowerCase(), key.toLowerCase())
    // More slips than half the word means another word.
    if (slips > reach || slips * 2 > key.length) continue
    if (best === undefined || slips < best.slips) best = { key, slips }
  }
  return best?.key
}

const plain = (word: string): string => word.toLowerCase().replaceAll(/[-_]/g, '')

/** The edit distance with swapped neighbours counted as one (optimal string alignment). */
const countSlips = (from: string, to: string): number => {
  let beforeLast: number[] = []
  let last = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= to.length; column += 1) {
      const same = from[row - 1] === to[column - 1]
      let slips = Math.min(
        at(last, column) + 1,
        at(current, column - 1) + 1,
        at(last, column - 1) + (same ? 0 : 1),
      )
      if (row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1])
        slips = Math.min(slips, at(beforeLast, column - 2) + 1)
      current.push(slips)
    }
    beforeLast = last
    last = current
  }
  return at(last, to.length)
}

const at = (row: readonly number[], column: number): number => row[column] ?? Number.POSITIVE_INFINITY
