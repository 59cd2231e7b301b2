import { readFileSync } from 'node:fs'

/** What `processStart` says of a process that has ended and was not waited for yet. */
const ENDED = 'ended'

/**
 * When a process began: the boot, and the ticks of the kernel's clock since (field 22 of /proc/PID/stat). A process id
 * alone is used again, after a boot above all. undefined: there is no such process, or the system does not tell.
 */
export const processStart = (pid: number): string | undefined => {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in parentheses and may hold anything, so count from its end.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? ENDED : `${boot}:${fields[19] ?? ''}`
  } catch {
    return undefined
  }
}
