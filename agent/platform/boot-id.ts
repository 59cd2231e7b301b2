import { readFileSync, readlinkSync } from 'node:fs'

/**
 * One run of the kernel and of the container: pids of another boot mean nothing. The boot id alone is the host's, and
 * a container that is stopped and started keeps it, so its process namespace is part of the name.
 */
export const readBootId = (): string =>
  `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/pid')}`
