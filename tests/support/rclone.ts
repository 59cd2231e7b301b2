import { execFileSync, spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'

export type FoundRclone =
  | { readonly path: string; readonly folder: string; readonly version: string }
  | { readonly path: undefined; readonly reason: string }

/** The least release whose copies to a remote that is not a bucket are safe to interrupt. */
const LEAST_MINOR = 63

/** A safe rclone: $RCLONE, one on PATH, or what scripts/ci/install-rclone.sh put into its folder. */
export const findRclone = (): FoundRclone => {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(process.env['HOME'] ?? '/root', '.cache')
  const candidates = [
    process.env['RCLONE'],
    ...(process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'rclone')),
    join(cache, 'gpu-agent', 'rclone', 'rclone'),
  ].filter((path): path is string => path !== undefined && path !== '')
  const tooOld: string[] = []
  for (const path of candidates) {
    const version = versionOf(path)
    if (version === undefined) continue
    const [major = 0, minor = 0] = version.split('.').map(Number)
    if (major > 1 || minor >= LEAST_MINOR) return { path, folder: join(path, '..'), version }
    tooOld.push(`${path} is ${version}`)
  }
  const reason = tooOld.length
    ? `${tooOld.join(', ')}, 1.${LEAST_MINOR} is needed`
    : 'there is no rclone here'
  return { path: undefined, reason: `${reason}; run scripts/ci/install-rclone.sh` }
}

const versionOf = (path: string): string | undefined => {
  try {
    accessSync(path, constants.X_OK)
    const text = execFileSync(path, ['version'], {
      encoding: 'utf8',
      env: { RCLONE_CONFIG: '' },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    return /^rclone v(\S+)/m.exec(text)?.[1]
  } catch {
    return undefined
  }
}

export type RcloneServer = { readonly url: string; close(): Promise<void> }

/** `rclone serve webdav` of a folder on a free loopback port: a remote without hashes and without times. */
export const serveWebdav = (
  rclone: string,
  options: {
    folder: string
    user: string
    password: string
    bytesPerSecond?: string
    mayWrite?: boolean
    /** Where it was before it went away; by default any that is free. */
    port?: number | undefined
  },
): Promise<RcloneServer> =>
  serve(
    rclone,
    ['webdav', options.folder],
    {
      HOME: options.folder,
      RCLONE_USER: options.user,
      RCLONE_PASS: options.password,
      ...(options.mayWrite === false ? { RCLONE_READ_ONLY: 'true' } : {}),
      ...(options.bytesPerSecond === undefined ? {} : { RCLONE_BWLIMIT: options.bytesPerSecond }),
      // What tests change in the folder behind the server's back is seen at once.
      RCLONE_DIR_CACHE_TIME: '0s',
    },
    options.port,
  )

/** `rclone serve s3`: the folders in `folder` are buckets, objects have MD5 hashes and appear when they are whole. */
export const serveS3 = (
  rclone: string,
  options: { folder: string; key: string; secret: string; isAlone?: boolean },
): Promise<RcloneServer> =>
  serve(rclone, ['s3', options.folder, `--auth-key=${options.key},${options.secret}`], {
    HOME: options.folder,
    // Where nobody changes the folder behind the server's back it need not list it again for each request.
    ...(options.isAlone === true ? {} : { RCLONE_DIR_CACHE_TIME: '0s' }),
  })

const serve = async (
  rclone: string,
  what: readonly string[],
  env: Readonly<Record<string, string>>,
  port = 0,
): Promise<RcloneServer> => {
  const child = spawn(rclone, ['serve', ...what, '--addr', `127.0.0.1:${port}`], {
    env: { ...env, RCLONE_CONFIG: '' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const url = await new Promise<string>((resolve, reject) => {
    child.once('error', reject)
    void ended.then(() => reject(new Error(`rclone serve ${what[0] ?? ''} ended`)))
    createInterface({ input: child.stderr }).on('line', (line) => {
      const found = /\[(http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1]
      if (found !== undefined) resolve(found)
    })
  })
  return {
    url,
    close: async () => {
      child.kill('SIGTERM')
      await ended
    },
  }
}
