import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'

const root = join(import.meta.dirname, '..', '..')

/** Builds dist/: what tests, the demo and benches run is what a user would run. @throws Error with the build's words */
export const buildPrograms = (): void => {
  const built = spawnSync(process.execPath, [join(root, 'scripts/build.ts')], { cwd: root, encoding: 'utf8' })
  if (built.status !== 0) throw new Error(`the build failed:\n${built.stdout}${built.stderr}`)
}

/** Before the tests, and before each further run of `vitest --watch`. */
export const setup = (project: TestProject): void => {
  buildPrograms()
  project.onTestsRerun(buildPrograms)
}
