import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PythonContext } from './context.ts'
import type { WeighedPython } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'
import { makeStackedEnvironment, overlayPaths } from './overlay.ts'

/*
 * A plan is made in a scratch environment on top of everything, so that it cannot change anything. It holds stub
 * metadata of every package: uv sees what is in this environment alone; requirements that were never met are nobody's
 * business now; and the four builds of OpenCV are one thing (they share their files, and a second one overwrites the
 * first).
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
    await mkdir(folder)
    await makeStackedEnvironment(paths, { ...context, base: top, sites: top.sites })
    await Promise.all(stubs(top).map((stub) => writeStub(stub, paths.site)))
    return await use({ python: paths.python, folder })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

type Stub = { readonly name: string; readonly version: string; readonly requires: readonly string[] }

const stubs = (python: WeighedPython): readonly Stub[] => [
  ...python.dists.map(({ name, version, requires }) => {
    const unmet = new Set(python.unmet[canonicalName(name)])
    return { name: canonicalName(name), version, requires: requires.filter((line) => !unmet.has(line)) }
  }),
  ...Object.entries(python.aliases).map(([name, version]) => ({ name, version, requires: [] })),
]

const writeStub = async ({ name, version, requires }: Stub, site: string): Promise<void> => {
  const info = join(site, `${name.replaceAll('-', '_')}-${version}.dist-info`)
  await mkdir(info)
  const lines = requires.map((line) => `Requires-Dist: ${line}\n`).join('')
  await writeFile(
    join(info, 'METADATA'),
    `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${lines}`,
  )
}
