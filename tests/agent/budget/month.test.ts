import { expect, test } from 'vitest'
import { gpuMs, rentBox, START_MS } from '../../support/budget/rented-box.ts'
import type { RentedBox } from '../../support/budget/rented-box.ts'
import { createRandom, extendBy, isIn, makeSchedule } from '../../support/budget/random-schedule.ts'
import type { Happening, Schedule } from '../../support/budget/random-schedule.ts'

/*
 * Weeks of rented boxes in simulated time, against a provider with books of its own: jobs, crashes, reboots, cut networks
 * and faults at random. What is asserted is what the provider billed, never what agentd says.
 */

const MIN = 60_000
const SCHEDULES = 1_000
/** From the limit to the end of the billing, the final sync included. */
const STOP_WITHIN_MS = 10 * MIN
const GRACE_MS = 15 * MIN

type Result = {
  readonly simulatedMs: number
  readonly limitStops: number
  readonly idleStops: number
  /** From the limit to the end of the billing, where the provider and the agent were there all the time. */
  readonly latenessMs: readonly number[]
  readonly violations: readonly string[]
}

const simulate = async (seed: number): Promise<Result> => {
  const random = createRandom(seed)
  const schedule = makeSchedule(random)
  const violations: string[] = []
  const latenessMs: number[] = []
  const seen = { limitStops: 0, idleStops: 0, calls: 0 }
  const limitMs = limitOf(schedule)
  const since = {
    over: 0,
    idle: 0,
    bootMs: START_MS,
    ownStop: false,
    wasBurning: true,
    extendedMs: 0,
    heldUntilMs: 0,
    hindered: false,
  }
  let lastMs = START_MS
  let isFaulty = false

  const watch = (box: RentedBox): void => {
    const nowMs = box.clock.nowMs()
    const passedMs = nowMs - lastMs
    lastMs = nowMs
    const atMs = nowMs - START_MS
    const isBusy = isIn(schedule.jobs, atMs)
    const isBurning = box.fake.ledger.burning().includes(box.machine.id)
    const isOver = limitMs !== null && gpuMs(box) >= limitMs + since.extendedMs
    const isReachable = box.network === 'works' && !isFaulty
    const isAlive = box.budget() !== undefined
    const isInGrace = since.ownStop && nowMs - since.bootMs < GRACE_MS

    // Every call that stops: the box does nothing, or its limit is reached.
    const stops = box.fake.calls.filter(({ kind }) => kind === 'stop').length
    if (stops > seen.calls) {
      if (schedule.budget.on_limit === 'notify') violations.push(`${seed}: notify stopped the box`)
      const isNearLimit = limitMs !== null && gpuMs(box) >= limitMs + since.extendedMs - 5_000
      if (isBusy && !isNearLimit) violations.push(`${seed}: a busy box was stopped at ${atMs / MIN} min`)
      seen.calls = stops
    }
    if (!isOver) since.hindered = false
    else if (!isReachable || isInGrace || !isAlive) since.hindered ||= isBurning
    if (since.wasBurning && !isBurning) {
      if (isOver) {
        seen.limitStops += 1
        if (!since.hindered) latenessMs.push(gpuMs(box) - limitMs - since.extendedMs)
      } else seen.idleStops += 1
      since.ownStop = true
      since.over = 0
      since.idle = 0
    }
    since.wasBurning = isBurning

    // The limit: time in which the agent could have ended the billing and has not.
    if (!isOver || !isReachable || isInGrace || !isBurning) since.over = 0
    else if (isAlive) since.over += passedMs
    if (schedule.budget.on_limit === 'stop' && since.over > STOP_WITHIN_MS) {
      violations.push(`${seed}: still billed ${since.over / MIN} min after its limit`)
      since.over = 0
    }
    // Idleness: a box that nobody uses is not forgotten either.
    const idleAfterMs = schedule.budget.idle_after
    const isKept =
      isBusy || isIn(schedule.unknown, atMs) || nowMs - since.bootMs < GRACE_MS || nowMs < since.heldUntilMs
    if (isKept || !isReachable || !isAlive || !isBurning) since.idle = 0
    else since.idle += passedMs
    if (
      idleAfterMs !== undefined &&
      schedule.budget.on_limit === 'stop' &&
      since.idle > idleAfterMs + 12 * MIN
    ) {
      violations.push(`${seed}: idle for ${since.idle / MIN} min and not stopped`)
      since.idle = 0
    }
  }

  const box = rentBox({ ...schedule, watch })
  box.busy = () => {
    const atMs = box.clock.nowMs() - START_MS
    if (isIn(schedule.unknown, atMs)) throw new Error('cannot be told')
    return isIn(schedule.jobs, atMs) ? ['a job runs'] : []
  }
  const endings: { readonly atMs: number; end(): void }[] = []
  const passUntil = async (atMs: number): Promise<void> => {
    for (;;) {
      const [next] = endings.toSorted((a, b) => a.atMs - b.atMs)
      if (next === undefined || next.atMs > atMs) break
      endings.splice(endings.indexOf(next), 1)
      await box.pass(Math.max(0, START_MS + next.atMs - box.clock.nowMs()))
      next.end()
    }
    await box.pass(Math.max(0, START_MS + atMs - box.clock.nowMs()))
  }
  const happen = async (one: Happening & { readonly atMs: number }): Promise<void> => {
    const later = (forMs: number, end: () => void): void => {
      endings.push({ atMs: box.clock.nowMs() - START_MS + forMs, end })
    }
    switch (one.kind) {
      case 'crash':
        box.killAgent()
        later(one.downMs, box.startAgent)
        return
      case 'reboot':
        if (!box.isUp()) return
        since.bootMs = box.clock.nowMs() + one.awayMs
        since.ownStop = false
        await box.reboot(one.awayMs)
        return
      case 'cut':
        box.network = one.how
        later(one.forMs, () => (box.network = 'works'))
        return
      case 'fault':
        box.fake.fault(one.fault)
        isFaulty = true
        later(one.forMs, () => {
          box.fake.clearFaults()
          isFaulty = false
        })
        return
      case 'extend':
        if (box.budget() === undefined) return
        extendBy(box, one.ms, schedule.usdPerHour)
        since.extendedMs += one.ms
        since.heldUntilMs = box.clock.nowMs() + one.ms
        since.over = 0
        since.idle = 0
        return
      case 'slow-sync':
        box.flushMs = one.flushMs
        return
      case 'user-start':
        if (box.machine.state !== 'stopped') return
        since.bootMs = box.clock.nowMs() + 1_000
        await box.startMachine()
        since.wasBurning = true
        return
    }
  }
  for (const one of schedule.happenings) {
    await passUntil(one.atMs)
    await happen(one)
  }
  await passUntil(schedule.lengthMs)
  if (box.fake.calls.some(({ kind }) => kind === 'destroy')) violations.push(`${seed}: a box was destroyed`)
  violations.push(
    ...box.errors.filter((error) => error.includes('service ended')).map((error) => `${seed}: ${error}`),
  )
  box.killAgent()
  return { simulatedMs: box.clock.nowMs() - START_MS, ...seen, latenessMs, violations }
}

const seconds = (ms: number | undefined): string => `${Math.round((ms ?? 0) / 1000)} s`

/** GPU time that the budget allows at this price; null: no limit. */
const limitOf = ({ budget, usdPerHour }: Schedule): number | null => {
  const hours = [
    ...(budget.max_hours === undefined ? [] : [budget.max_hours]),
    ...(budget.max_cost_usd === undefined ? [] : [budget.max_cost_usd / usdPerHour]),
  ]
  return hours.length === 0 ? null : Math.min(...hours) * 60 * MIN
}

test(
  `${SCHEDULES} random schedules of jobs, crashes, reboots, cut networks and faults: no busy box is stopped for idleness, and no limit is passed by 10 minutes`,
  { timeout: 300_000 },
  async () => {
    const results: Result[] = []
    for (let seed = 1; seed <= SCHEDULES; seed += 1) results.push(await simulate(seed))
    expect(results.flatMap(({ violations }) => violations)).toEqual([])
    const sum = (of: (result: Result) => number): number => results.reduce((total, one) => total + of(one), 0)
    const days = sum(({ simulatedMs }) => simulatedMs) / (24 * 60 * MIN)
    const late = results.flatMap(({ latenessMs }) => latenessMs).toSorted((a, b) => a - b)
    console.log(
      `${days.toFixed(0)} days, ${sum(({ limitStops }) => limitStops)} stops at a limit, ${sum(({ idleStops }) => idleStops)} for idleness; ` +
        `of ${late.length} at a limit with nothing in the way the billing ended ${seconds(late[late.length >> 1])} after it (median), ${seconds(late.at(-1))} at most`,
    )
    // The simulation is worth something only while it stops boxes of both kinds.
    expect(days).toBeGreaterThan(30)
    expect(sum(({ limitStops }) => limitStops)).toBeGreaterThan(100)
    expect(sum(({ idleStops }) => idleStops)).toBeGreaterThan(100)
  },
)
