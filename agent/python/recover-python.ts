import { existsSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { sweepTemporaryFiles } from '../platform/files.ts'
import type { PythonContext } from './context.ts'
import { takeInstallLock } from './install-lock.ts'
import { rollBack } from './install-transaction.ts'
import { overlayPaths } from './overlay.ts'
import { endStrayInstalls } from './stray-installs.ts'

/**
 * At the start of the agent: takes back every install that an earlier one did not end, and removes what it left.
 * Returns the overlays that were put back.
 */
export const recoverPython = async (context: PythonContext): Promise<readonly string[]> => {
  const recovered: string[] = []
  if (!existsSync(context.folder)) return recovered
  await endStrayInstalls((mark) => `${mark}/`.startsWith(`${context.folder}/`), context)
  for (const name of await readdir(context.folder)) {
    const root = join(context.folder, name)
    if (name.startsWith('scratch-')) await rm(root, { recursive: true, force: true })
    if (!/^[0-9a-f]{12}$/.test(name)) continue
    for (const left of await readdir(root))
      if (/^lock\.[0-9a-f]{12}$/.test(left)) await rm(join(root, left), { force: true })
    // The version only matters for the site folder, which recovery does not look into.
    const paths = overlayPaths(root, '')
    const unlock = takeInstallLock(paths.lock)
    try {
      await sweepTemporaryFiles(root)
      if (await rollBack(paths, { ...context, reason: 'the agent ended in the middle of the install' }))
        recovered.push(paths.env)
    } finally {
      unlock()
    }
  }
  return recovered
}
