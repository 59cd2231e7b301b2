import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { canonicalName } from './inspect-python.ts'
import { withoutLogin } from './requirement-files.ts'
import type { PlannedDist, ResolveContext, ResolveFiles } from './resolution.ts'
import type { Uv } from './uv.ts'
import { runUv } from './uv.ts'

/**
 * What uv would install for the requests in a file: in the tenth of a second where pip takes seconds, for it reads the
 * requirements of a wheel out of the index instead of fetching the wheel. Undefined when it refuses or cannot tell:
 * pip is asked then, so that every refusal is pip's own.
 */
export const resolveWithUv = async (
  files: ResolveFiles,
  context: ResolveContext & { readonly uv: Uv; readonly noDeps?: boolean },
): Promise<readonly PlannedDist[] | undefined> => {
  const { uv, scratch } = context
  const unsure = (what: string): readonly PlannedDist[] | undefined => {
    context.log.warn('uv cannot plan this, pip does', { said: withoutLogin(what).trim().slice(0, 500) })
    return undefined
  }
  const planned = await runUv(
    uv,
    [
      'install',
      '--dry-run',
      '--python',
      scratch.python,
      ...(context.noDeps ? ['--no-deps'] : []),
      '--constraints',
      files.constraints,
      '--requirements',
      files.requests,
    ],
    context,
  )
  if (planned.exitCode !== 0)
    return /No solution found/.test(planned.stderr) ? undefined : unsure(planned.stderr)
  // It has no report; ` + einops==0.8.0` stands on a line of its own.
  const pins = [...planned.stderr.matchAll(/^ [+~] ([^\s=]+)==(\S+)/gm)].map(
    ([, name = '', version = '']) => ({
      name: canonicalName(name),
      version,
    }),
  )
  if (pins.length === 0) return []
  const pinned = join(scratch.folder, 'pins.txt')
  await writeFile(pinned, pins.map(({ name, version }) => `${name}===${version}\n`).join(''))
  const located = await runUv(
    uv,
    ['compile', '--format=pylock.toml', '--no-header', '--no-deps', '--python', scratch.python, pinned],
    context,
  )
  if (located.exitCode !== 0) return unsure(located.stderr)
  const wheels = readLock(located.stdout)
  const dists = pins.flatMap(({ name, version }) => {
    const wheel = wheels.get(`${name} ${version}`)
    return wheel === undefined ? [] : [{ name, version, ...wheel, url: null, requires: null }]
  })
  return dists.length === pins.length ? dists : unsure('its lock lacks a wheel of the plan')
}

type LockedWheel = Pick<PlannedDist, 'sha256' | 'sizeBytes'>

/** The wheels of a lock (PEP 751) as uv writes it: one for each package, for it was asked about one Python. */
const readLock = (text: string): ReadonlyMap<string, LockedWheel> =>
  new Map(
    text
      .split('[[packages]]')
      .slice(1)
      .map((block): [string, LockedWheel] => {
        const field = (pattern: RegExp): string | undefined => pattern.exec(block)?.[1]
        const size = field(/\bsize = (\d+)/)
        return [
          `${field(/^name = "([^"]+)"/m) ?? ''} ${field(/^version = "([^"]+)"/m) ?? ''}`,
          {
            sha256: field(/\bsha256 = "([0-9a-f]{64})"/) ?? null,
            sizeBytes: size === undefined ? null : Number(size),
          },
        ]
      }),
  )
