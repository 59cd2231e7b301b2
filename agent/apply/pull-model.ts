import { lstat } from 'node:fs/promises'
import { dirname, isAbsolute, join, normalize } from 'node:path'
import { AgentError, type Problem } from '../../shared/contract/errors.ts'
import type { ModelRow } from '../../shared/contract/records.ts'
import type { ResolvedSource } from '../../shared/sources/resolved-source.ts'
import type { Downloads } from '../downloads/downloads.ts'
import { joinInside } from '../platform/files.ts'
import type { Secrets } from '../platform/secrets.ts'
import { checkDisks } from '../preflight/check-disks.ts'
import { readDisks, readPartialBytes } from '../preflight/gather-facts.ts'
import { readManifest } from './read-manifest.ts'
import type { StoredManifest } from './runs.ts'

/** One model that somebody wants now, beside what the manifest wants. */
export type PullRequest = {
  readonly source: string
  /** A file, or a folder where it ends with a slash or is one; relative to models_root. Null: models_root itself. */
  readonly to: string | null
  readonly allowPickle: boolean
}

export type Pulled = { readonly model: ModelRow; readonly problems: readonly Problem[] }

/**
 * Fetches one file through the same engine as a run: one transfer a destination whoever asks, verified, resumable. It must
 * fit the disk before its first byte, and never replaces another file.
 * @throws AgentError destination_invalid, disk_too_small, unsafe_path, pickle_refused; what the source refuses with
 */
export const pullModel = async (
  request: PullRequest,
  context: {
    readonly downloads: Downloads
    readonly resolve: (reference: string, signal: AbortSignal) => Promise<ResolvedSource>
    /** Of the manifest that the box was brought to; null without one. */
    readonly modelsRoot: string | null
    readonly signal: AbortSignal
  },
): Promise<Pulled> => {
  const { downloads, modelsRoot, signal } = context
  const found = await context.resolve(request.source, signal)
  const place = await placeOf(request.to, { name: found.fileName, modelsRoot })
  const file = {
    ...place,
    from: [request.source],
    sha256: null,
    sizeBytes: null,
    optional: false,
    allowPickle: request.allowPickle,
    keepsOther: true,
  }
  if ((await downloads.proven(file)) === undefined) await refuseTooLarge(place, found.sizeBytes)
  const { state, problem } = await downloads.fetchOne(file, { signal })
  if (state === 'failed')
    throw new AgentError(problem?.code ?? 'internal', problem?.message ?? `${place.to} was not fetched`, {
      ...(problem ? { hint: problem.hint } : {}),
    })
  const model = (await downloads.models()).find((one) => one.path === place.path)
  if (model === undefined) throw new AgentError('internal', `${place.to} was fetched and is not listed`)
  return { model, problems: problem ? [problem] : [] }
}

/**
 * Where the models of the manifest lie that the box was last brought to; null without one.
 * @throws AgentError secret_missing when a value in its path is not there any more
 */
export const modelsRootOf = (last: StoredManifest | undefined, secrets: Secrets): string | null => {
  if (last === undefined) return null
  const { manifest, missing } = readManifest({ manifest: last.text, file: last.file }, secrets)
  const lacking = [...missing].find(([, subjects]) => subjects.includes('models_root'))?.[0]
  if (lacking !== undefined)
    throw new AgentError('secret_missing', `the box does not have ${lacking} and models_root needs it`, {
      hint: `Put it into the box: agentctl secret set ${lacking}.`,
    })
  return manifest.models_root ?? null
}

type Place = { readonly to: string; readonly path: string; readonly root: string | null }

const placeOf = async (
  to: string | null,
  { name, modelsRoot }: { readonly name: string | null; readonly modelsRoot: string | null },
): Promise<Place> => {
  const given = to ?? ''
  if (!isAbsolute(given) && modelsRoot === null)
    throw new AgentError('destination_invalid', 'the box has no models_root yet: no manifest names one', {
      hint: 'Say where the file goes with --to /absolute/path.',
    })
  const locate = (path: string): Place =>
    isAbsolute(path)
      ? { to: path, path: normalize(path), root: null }
      : { to: path, path: joinInside(modelsRoot ?? '/', path), root: modelsRoot }
  if (given !== '' && !given.endsWith('/') && !(await isFolder(locate(given).path))) return locate(given)
  if (name === null)
    throw new AgentError('destination_invalid', 'the source does not say how its file is called', {
      hint: 'Say it with --to, the file name at the end.',
    })
  return locate(join(given, name))
}

const isFolder = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => undefined))?.isDirectory() === true

const refuseTooLarge = async ({ to, path }: Place, sizeBytes: number | null): Promise<void> => {
  if (sizeBytes === null) return
  const partial = (await readPartialBytes([{ path }])).get(path) ?? 0
  const disks = await readDisks([dirname(path)])
  const need = { to, path: dirname(path), bytes: Math.max(0, sizeBytes - partial) }
  const [problem] = checkDisks([need], { disks }, { path: dirname(path), bytes: 0 })
  if (problem) throw new AgentError(problem.code, problem.message, { hint: problem.hint })
}
