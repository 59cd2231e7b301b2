import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Resolution, ResolveContext } from './resolution.ts'
import { resolveWithPip } from './resolve-with-pip.ts'
import { resolveWithUv } from './resolve-with-uv.ts'

/**
 * What would be installed for these requests. Wheels only: planning with a source archive would run its code.
 * uv says it where there is one; pip says it otherwise, and it alone says no.
 */
export const resolveRequests = async (
  requests: readonly string[],
  context: ResolveContext & { readonly constraints: readonly string[]; readonly noDeps?: boolean },
): Promise<Resolution> => {
  const files = {
    requests: join(context.scratch.folder, 'requests.txt'),
    constraints: join(context.scratch.folder, 'constraints.txt'),
  }
  await writeFile(files.requests, lines(requests))
  await writeFile(files.constraints, lines(context.constraints))
  const { uv } = context
  const dists = uv === null ? undefined : await resolveWithUv(files, { ...context, uv })
  return dists === undefined ? resolveWithPip(files, context) : { state: 'resolved', dists }
}

const lines = (texts: readonly string[]): string => texts.map((text) => `${text}\n`).join('')
