/** What was measured and what it has to be; exactly one of the bounds. */
export type Goal = {
  readonly what: string
  readonly value: number
  readonly unit: string
  readonly atMost?: number
  readonly atLeast?: number
  /** How the value came about. */
  readonly note: string
}

/** Prints a goal with PASS or MISS. */
export const printGoal = ({ what, value, unit, atMost, atLeast, note }: Goal): void => {
  const isMet =
    value <= (atMost ?? Number.POSITIVE_INFINITY) && value >= (atLeast ?? Number.NEGATIVE_INFINITY)
  const bound = atMost === undefined ? `at least ${atLeast}` : `at most ${atMost}`
  console.log(`${isMet ? 'PASS' : 'MISS'}  ${what}: ${value.toFixed(2)} ${unit} (goal ${bound}); ${note}`)
}

/** Says what could not be measured here, and why. */
export const printSkipped = (what: string, reason: string): void => console.log(`SKIP  ${what}: ${reason}`)
