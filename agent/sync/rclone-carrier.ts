import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import type { Carrier, CarryContext, PutFile, RemoteFile } from './carrier.ts'
import type { Rclone } from './rclone.ts'

/**
 * The rest of every copy's arguments. One stream per file: with several, rclone does not notice that its source
 * changed and stores a mixture with exit 0. `--ignore-times`: what is copied is decided here, not by times and sizes
 * that some remotes do not keep. Retries are the sync's own, so rclone makes few.
 */
export const COPY_FLAGS: readonly string[] = [
  '--no-traverse',
  '--ignore-times',
  '--multi-thread-streams=0',
  '--transfers=2',
  '--checkers=8',
  '--retries=1',
  '--low-level-retries=3',
  '--contimeout=15s',
  '--timeout=60s',
  '--use-json-log',
  '-v',
  '--stats=1s',
]

const READ_FLAGS: readonly string[] = [
  '--retries=1',
  '--low-level-retries=3',
  '--contimeout=15s',
  '--timeout=60s',
  '--use-json-log',
]

const TYPE_FLAGS: Readonly<Record<string, readonly string[]>> = {
  // Restricted keys may not make buckets; 2 transfers × 32 MiB × 4 = 256 MiB of memory.
  s3: ['--s3-no-check-bucket', '--s3-chunk-size=32M', '--s3-upload-concurrency=4'],
  b2: ['--b2-chunk-size=96M'],
  // The other modes cannot be verified or wait minutes.
  dropbox: ['--dropbox-batch-mode=sync'],
}

/** rclone's “directory not found” and “file not found”. */
const ABSENT = [3, 4]

/** A destination behind rclone: one process a call, ended by the signal or when it stands still. */
export const createRcloneCarrier = (
  rclone: Rclone,
  context: { type: string; to: string; temporaryFolder: string },
): Carrier => {
  const typeFlags = TYPE_FLAGS[context.type] ?? []
  const at = (path: string): string => rclone.at([context.to, path].filter(Boolean).join('/'))

  const inFolder = async <T>(work: (folder: string) => Promise<T>): Promise<T> => {
    const folder = await mkdtemp(join(context.temporaryFolder, 'batch-'))
    try {
      return await work(folder)
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }

  const list: Carrier['list'] = (paths, { signal }) =>
    inFolder(async (folder) => {
      const found = new Map<string, RemoteFile>()
      if (paths !== 'everything' && paths.length === 0) return found
      const args = [at(''), '--recursive', '--files-only', '--no-modtime', '--no-mimetype']
      if (paths !== 'everything')
        args.push('--hash', '--no-traverse', `--files-from-raw=${await writeList(folder, paths)}`)
      await rclone.run({
        verb: 'lsjson',
        args: [...args, ...READ_FLAGS, ...typeFlags],
        signal,
        accept: ABSENT,
        onLine: (line) => readListed(line, found),
      })
      return found
    })

  const copy = (files: readonly PutFile[], options: CarryContext): Promise<void> =>
    inFolder(async (folder) => {
      if (files.length === 0) return
      const tree = join(folder, 'tree')
      for (const { from, path } of files) {
        await mkdir(dirname(join(tree, path)), { recursive: true })
        // The links lead to open files, whose bytes stay when the trainer removes their names (S3, S4).
        await symlink(from, join(tree, path))
      }
      const names = await writeList(
        folder,
        files.map(({ path }) => path),
      )
      await rclone.run({
        verb: 'copy',
        args: [tree, at(''), `--files-from-raw=${names}`, '--copy-links', ...COPY_FLAGS, ...typeFlags],
        signal: options.signal,
        ...(options.onProgress ? { onProgress: options.onProgress } : {}),
      })
    })

  return {
    list,
    put: async (files, options) => {
      const bodies = files.filter(({ path }) => !options.last.has(path))
      const bodyBytes = bodies.reduce((sum, file) => sum + file.sizeBytes, 0)
      await copy(bodies, options)
      await copy(
        files.filter(({ path }) => options.last.has(path)),
        { ...options, onProgress: (bytes) => options.onProgress?.(bodyBytes + bytes) },
      )
    },
    keep: async (pairs, { signal }) => {
      for (const { from, to } of pairs)
        await rclone.run({
          verb: 'copyto',
          args: [at(from), at(to), ...COPY_FLAGS, ...typeFlags],
          signal,
        })
    },
    read: async (path, { signal }) =>
      (await rclone.run({ verb: 'cat', args: [at(path), ...READ_FLAGS, ...typeFlags], signal })).stdout,
  }
}

/** Names as they are, one a line; names with line ends never come this far (S36). */
const writeList = async (folder: string, paths: readonly string[]): Promise<string> => {
  const file = join(folder, 'names')
  await writeFile(file, `${paths.join('\n')}\n`)
  return file
}

const Listed = z.object({
  Path: z.string(),
  Size: z.number(),
  IsDir: z.boolean(),
  Hashes: z
    .object({ sha256: z.string().optional(), sha1: z.string().optional(), md5: z.string().optional() })
    .optional(),
})

const readListed = (line: string, found: Map<string, RemoteFile>): void => {
  const file = parseListed(line)
  if (!file || file.IsDir) return
  const { sha256, sha1, md5 } = file.Hashes ?? {}
  found.set(file.Path, {
    sizeBytes: file.Size,
    hashes: { ...(sha256 && { sha256 }), ...(sha1 && { sha1 }), ...(md5 && { md5 }) },
  })
}

/** A line that is no file is the frame of the list; one that is cut off is a file that counts as absent. */
const parseListed = (line: string): z.infer<typeof Listed> | undefined => {
  if (!line.startsWith('{')) return undefined
  try {
    return Listed.parse(JSON.parse(line.replace(/,$/, '')))
  } catch {
    return undefined
  }
}
