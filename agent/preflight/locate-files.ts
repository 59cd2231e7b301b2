import { isAbsolute, join, normalize } from 'node:path'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { SourcedFile } from '../../shared/sources/sourced-file.ts'
import { joinInside } from '../platform/files.ts'

/** One file that the manifest wants, with its place on this box. */
export type WantedFile = SourcedFile & {
  readonly path: string
  /** The folder it must stay in; null for an absolute destination. */
  readonly root: string | null
  /** Ranges from several sources at once, where they are proven equal. */
  readonly race: boolean
}

/**
 * The files of the manifest with absolute paths.
 * @throws AgentError unsafe_path (the parser has refused these already; a caller that built a manifest has not)
 */
export const locateFiles = (manifest: Manifest): readonly WantedFile[] =>
  manifest.downloads.flatMap((download) => {
    if (!('to' in download)) return []
    const root = isAbsolute(download.to) ? null : (manifest.models_root ?? '/')
    return [
      {
        to: download.to,
        path: root === null ? normalize(download.to) : joinInside(root, download.to),
        root,
        from: download.from,
        sha256: download.sha256 ?? null,
        sizeBytes: download.size ?? null,
        optional: download.optional,
        allowPickle: download.allow_pickle,
        race: download.race,
      },
    ]
  })

/** A whole repository that the manifest wants. */
export type WantedSnapshot = {
  /** The manifest's words: `hf://owner/repo@revision`. */
  readonly request: Extract<Manifest['downloads'][number], { snapshot: string }>
  /** HF_HOME: the cache lies in `hub` under it. */
  readonly hfHome: string
}

/** The repositories of the manifest; without `hf_home` they go where Hugging Face's own tools look. */
export const locateSnapshots = (manifest: Manifest, home: string): readonly WantedSnapshot[] =>
  manifest.downloads.flatMap((request) =>
    'snapshot' in request
      ? [{ request, hfHome: manifest.hf_home ?? join(home, '.cache', 'huggingface') }]
      : [],
  )
