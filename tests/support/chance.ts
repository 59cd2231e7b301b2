/** Chance that gives the same numbers for the same seed: a round that fails can be looked at again. */
export const createChance = (seed: number) => {
  let state = seed
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    pick: <T>(all: readonly T[]): T => all[Math.floor(next() * all.length)] as T,
    isLikely: (share: number): boolean => next() < share,
  }
}
