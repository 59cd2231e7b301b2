import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PythonContext } from './context.ts'
import type { WeighedPython } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'
import { makeStackedEnvironment, overlayPaths } from './overlay.ts'

/*
 * pip plans in a scratch environment on top of everything, so that a plan cannot change anything. Stub metadata in it
 * tells pip two things: requirements that the environment never met are not its business, and the four builds of
 * OpenCV are one thing (they share their files, and a second one overwrites the first).
 */

/**
 * Calls `use` with a scratch Python stacked on `top`, and removes it after.
 * @throws AgentError overlay_failed, and what `use` throws
 */
export const withScratchPython = async <T>(
  top: WeighedPython,
  context: PythonContext,
  use: (scratch: { readonly python: string; readonly folder: string }) => Promise<T>,
): Promise<T> => {
  const folder = join(context.folder, `scratch-${randomBytes(6).toString('hex')}`)
  const paths = overlayPaths(folder, top.version)
  try {
    await mkdir(folder, { recursive: true })
    await makeStackedEnvironment(paths, { ...context, base: top, sites: top.sites })
    for (const stub of stubs(top)) {
      const info = join(paths.site, `${stub.name.replaceAll('-', '_')}-${stub.version}.dist-info`)
      await mkdir(info)
      const requires = stub.requires.map((line) => `Requires-Dist: ${line}\n`).join('')
      await writeFile(
        join(info, 'METADATA'),
        `Metadata-Version: 2.1\nName: ${stub.name}\nVersion: ${stub.version}\n${requires}`,
      )
    }
    return await use({ python: paths.python, folder })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const stubs = (python: WeighedPython) => [
  ...python.dists.flatMap((dist) => {
    const name = canonicalName(dist.name)
    const unmet = python.unmet[name] ?? []
    return unmet.length === 0
      ? []
      : [{ name, version: dist.version, requires: dist.requires.filter((line) => !unmet.includes(line)) }]
  }),
  ...Object.entries(python.aliases).map(([name, version]) => ({ name, version, requires: [] })),
]
