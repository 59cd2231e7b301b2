import { readFileSync } from 'node:fs'

/**
 * A point in time that can be compared with one before a restart. A clock that is set does not move `uptimeMs`; the wall
 * clock is only needed where the kernel itself was started anew.
 */
export type Moment = {
  /** The running kernel. A container that is stopped and started on the same host keeps it. */
  readonly kernel: string
  /** The box's own start: of this kernel's first process, or of the container's. */
  readonly boot: string
  /** Milliseconds since the kernel started, monotonic. */
  readonly uptimeMs: number
  /** `uptimeMs` at the box's own start. */
  readonly bootUptimeMs: number
  /** Milliseconds since 1970 by the wall clock. */
  readonly wallMs: number
}

/** Linux counts process times in hundredths of a second for programs, whatever the kernel's own tick is (USER_HZ). */
const MS_PER_TICK = 10

/** Now. Where /proc does not tell the box's start, the kernel's stands for it. */
export const readMoment = (): Moment => {
  const uptimeMs = Number(process.hrtime.bigint() / 1_000_000n)
  const kernel = readText('/proc/sys/kernel/random/boot_id')
  const ticks = startTicks(readText('/proc/1/stat'))
  return {
    kernel,
    boot: `${kernel} ${ticks}`,
    uptimeMs,
    // Some containers are shown an uptime of their own, and starts by the host's.
    bootUptimeMs: Math.min(uptimeMs, ticks * MS_PER_TICK),
    wallMs: Date.now(),
  }
}

/** Field 22 of /proc/PID/stat; the name in field 2 may hold blanks and brackets. */
const startTicks = (stat: string): number => {
  const field = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
  return Number.isSafeInteger(field) ? field : 0
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // Without /proc every start of the agent belongs to one boot, and time counts on.
    return ''
  }
}
