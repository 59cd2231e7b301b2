import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import type { Carrier, CarryContext, PutFile, RemoteFile } from './carrier.ts'
import type { HashAlgorithm } from './file-hashes.ts'
import type { Rclone } from './rclone.ts'

/**
 * The rest of every copy's arguments. One stream per file: with several, rclone does not notice that its source
 * changed and stores a mixture with exit 0. `--ignore-times`: what is copied is decided here, not by times and sizes
 * that some remotes do not keep. Retries are the sync's own, so rclone makes few. Of its log only errors and statistics
 * are wanted.
 */
export const COPY_FLAGS: readonly string[] = [
  '--ignore-times',
  '--multi-thread-streams=0',
  '--checkers=8',
  '--retries=1',
  '--low-level-retries=3',
  '--contimeout=15s',
  '--timeout=60s',
  '--use-json-log',
  '--stats=1s',
  '--stats-log-level=NOTICE',
]

/** Files up to this size are sent whole, so several at once cost no memory. */
const SMALL_FILE_BYTES = 16 * 2 ** 20

/** Names of files whose folders are listed rather than each of them looked up. */
const MANY_FILES = 64

const READ_FLAGS: readonly string[] = [
  '--retries=1',
  '--low-level-retries=3',
  '--contimeout=15s',
  '--timeout=60s',
  '--use-json-log',
]

const TYPE_FLAGS: Readonly<Record<string, readonly string[]>> = {
  // Restricted keys may not make buckets; 2 transfers × 32 MiB × 4 = 256 MiB of memory.
  // What was sent is listed and compared afterwards, so rclone need not look at each object by itself.
  s3: ['--s3-no-check-bucket', '--s3-no-head', '--s3-chunk-size=32M', '--s3-upload-concurrency=4'],
  b2: ['--b2-chunk-size=96M'],
  // The other modes cannot be verified or wait minutes.
  dropbox: ['--dropbox-batch-mode=sync'],
}

/** What buckets name of what was just stored; the others say at the first listing. */
const USUAL_HASHES: Readonly<Record<string, HashAlgorithm>> = { s3: 'md5', b2: 'sha1' }
const ALGORITHMS: readonly HashAlgorithm[] = ['sha256', 'sha1', 'md5']

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

  let named = USUAL_HASHES[context.type]

  const list: Carrier['list'] = (paths, { signal }) =>
    inFolder(async (folder) => {
      const found = new Map<string, RemoteFile>()
      if (paths !== 'everything' && paths.length === 0) return found
      const args = [at(''), '--recursive', '--files-only', '--no-modtime', '--no-mimetype']
      if (paths !== 'everything') args.push('--hash', `--files-from-raw=${await writeList(folder, paths)}`)
      if (paths !== 'everything' && paths.length < MANY_FILES) args.push('--no-traverse')
      await rclone.run({
        verb: 'lsjson',
        args: [...args, ...READ_FLAGS, ...typeFlags],
        signal,
        accept: ABSENT,
        onLine: (line) => readListed(line, found),
      })
      for (const { hashes } of found.values()) named ??= ALGORITHMS.find((algorithm) => hashes[algorithm])
      return found
    })

  const copy = (files: readonly PutFile[], options: CarryContext & { isNew: boolean }): Promise<void> =>
    inFolder(async (folder) => {
      if (files.length === 0) return
      const own = folderOf(files)
      const names = await writeList(
        folder,
        files.map(({ path }) => path),
      )
      await rclone.run({
        verb: 'copy',
        args: [
          own ?? (await linkFiles(files, join(folder, 'tree'))),
          at(''),
          `--files-from-raw=${names}`,
          ...(own === undefined ? ['--copy-links'] : []),
          // Where something may be replaced, a drive that allows two files of one name has to be asked.
          options.isNew ? '--no-check-dest' : '--no-traverse',
          `--transfers=${files.every(({ sizeBytes }) => sizeBytes <= SMALL_FILE_BYTES) ? 8 : 2}`,
          ...COPY_FLAGS,
          ...typeFlags,
        ],
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
          args: [at(from), at(to), '--no-traverse', ...COPY_FLAGS, ...typeFlags],
          signal,
        })
    },
    read: (paths, { signal }) =>
      inFolder(async (folder) => {
        const texts = new Map<string, string>()
        if (paths.length === 0) return texts
        const names = await writeList(folder, paths)
        const tree = join(folder, 'read')
        await rclone.run({
          verb: 'copy',
          args: [at(''), tree, `--files-from-raw=${names}`, '--no-traverse', ...COPY_FLAGS, ...typeFlags],
          signal,
          accept: ABSENT,
        })
        for (const path of paths) {
          const text = await readFile(join(tree, path), 'utf8').catch(() => undefined)
          if (text !== undefined) texts.set(path, text)
        }
        return texts
      }),
    namedHash: () => named,
  }
}

/** The folder in which all files lie under their own paths already; undefined: they are held open elsewhere. */
const folderOf = (files: readonly PutFile[]): string | undefined => {
  const [first] = files
  const folder = first?.from.slice(0, -first.path.length - 1)
  return folder && files.every(({ from, path }) => from === `${folder}/${path}`) ? folder : undefined
}

/** A folder of links to open files, whose bytes stay when the trainer removes their names (S3, S4). */
const linkFiles = async (files: readonly PutFile[], tree: string): Promise<string> => {
  const folders = new Set(files.map(({ path }) => dirname(join(tree, path))))
  for (const folder of folders) await mkdir(folder, { recursive: true })
  for (const { from, path } of files) await symlink(from, join(tree, path))
  return tree
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
