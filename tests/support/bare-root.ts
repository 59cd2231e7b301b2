import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Machine } from './machine.ts'
import { machineIn } from './machine.ts'

/** The archive that scripts/ci/make-bare-root.sh makes; empty when there is none. */
export const bareRootArchive = process.env['BARE_ROOT'] ?? ''

/** Why there is no bare root to boot in; undefined when there is one. */
export const noBareRoot: string | undefined =
  bareRootArchive === ''
    ? 'BARE_ROOT names no archive; scripts/ci/make-bare-root.sh makes one'
    : !existsSync(bareRootArchive)
      ? `${bareRootArchive} is not there`
      : process.getuid?.() !== 0
        ? 'making a container needs root'
        : spawnSync('unshare', ['--mount', '--pid', '--fork', 'true']).status === 0
          ? undefined
          : 'this machine lets nobody make namespaces'

/** A bare Debian, as on a machine that was just rented: no Node, no npm, no init. */
export type BareRoot = Machine & { remove(): Promise<void> }

export const unpackBareRoot = (): BareRoot => {
  const folder = mkdtempSync(join(tmpdir(), 'gpu-agent-root-'))
  execFileSync('tar', ['-xf', bareRootArchive, '-C', folder])
  const machine = machineIn(folder, { network: 'shared' })
  return {
    ...machine,
    remove: async () => {
      await machine.kill()
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    },
  }
}
