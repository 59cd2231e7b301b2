import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { inflateRawSync } from 'node:zlib'
import { findProgram } from '../../../agent/platform/commands.ts'
import { systemPython } from './python-world.ts'

/*
 * Wheels of the package index, kept between runs in ~/.cache/gpu-agent. They come through pip and uv as this machine
 * has them set up; nothing is downloaded unless GPU_AGENT_REAL_WHEELS is 1.
 */

const CACHE = join(homedir(), '.cache', 'gpu-agent')
const mayDownload = process.env['GPU_AGENT_REAL_WHEELS'] === '1'

type Found<T> = (T & { readonly missing?: never }) | { readonly missing: string }

/** A uv: of this machine, or fetched into the cache; or why there is none. */
export const testUv = (): Found<{ readonly path: string; readonly folder: string }> => {
  const folder = join(CACHE, 'uv', 'bin')
  const known = findProgram('uv', `${process.env['PATH'] ?? ''}:${folder}`)
  if (known !== undefined) return { path: known, folder: join(known, '..') }
  if (!mayDownload)
    return { missing: 'uv is not installed, and GPU_AGENT_REAL_WHEELS=1 is not set to fetch it' }
  const failure = intoCache('uv', (to) => [['install', '--target', to, 'uv']])
  return failure === undefined ? { path: join(folder, 'uv'), folder } : { missing: failure }
}

/** A folder with these wheels (`name==version`), without what they require; or why there is none. */
export const realWheels = (...pins: readonly string[]): Found<{ readonly folder: string }> => {
  if (!mayDownload)
    return { missing: 'GPU_AGENT_REAL_WHEELS=1 is not set; it downloads from the package index' }
  const name = `wheels-${process.arch}-${pins.join('-').replaceAll(/[^\w.-]+/g, '_')}`
  const only = ['--no-deps', '--only-binary=:all:']
  const failure = intoCache(name, (to) =>
    // One by one: they may be versions of the same package.
    pins.map((pin) => ['download', ...only, '--dest', to, pin]),
  )
  return failure === undefined ? { folder: join(CACHE, name) } : { missing: failure }
}

/** A Python, and a folder for its PYTHONPATH with these packages and what they require; or why there is none. */
export const realPackages = (
  ...pins: readonly string[]
): Found<{ readonly folder: string; readonly python: string }> => {
  const system = systemPython()
  if (system.missing !== undefined) return system
  const name = `packages-${process.arch}-${pins.join('-').replaceAll(/[^\w.-]+/g, '_')}`
  if (!mayDownload && !existsSync(join(CACHE, name)))
    return { missing: 'GPU_AGENT_REAL_WHEELS=1 is not set; it downloads from the package index' }
  const failure = intoCache(name, (to) => [['install', '--only-binary=:all:', '--target', to, ...pins]])
  return failure === undefined ? { folder: join(CACHE, name), python: system.path } : { missing: failure }
}

/**
 * Some files of one wheel of the index, read by ranges: the rest of it stays where it is.
 * @throws Error when the index has no such wheel or a file is not in it
 */
export const readFromWheel = async (
  pin: string,
  names: readonly string[],
  uv: string,
): Promise<Readonly<Record<string, Buffer>>> => {
  const url = locate(pin, uv)
  const { bytes: tail, start } = await readRange(url, -MAX_DIRECTORY_BYTES)
  const end = tail.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
  const found: Record<string, Buffer> = {}
  for (let at = tail.readUInt32LE(end + 16) - start; tail.readUInt32LE(at) === 0x0201_4b50;) {
    const nameBytes = tail.readUInt16LE(at + 28)
    const name = tail.toString('utf8', at + 46, at + 46 + nameBytes)
    if (names.includes(name)) {
      const packed = tail.readUInt32LE(at + 20)
      const offset = tail.readUInt32LE(at + 42)
      // Its own header repeats the name and has an extra field of a length of its own.
      const { bytes } = await readRange(url, offset, offset + packed + 30 + nameBytes + 1024)
      const begin = 30 + bytes.readUInt16LE(26) + bytes.readUInt16LE(28)
      const content = bytes.subarray(begin, begin + packed)
      found[name] = tail.readUInt16LE(at + 10) === 0 ? content : inflateRawSync(content)
    }
    at += 46 + nameBytes + tail.readUInt16LE(at + 30) + tail.readUInt16LE(at + 32)
  }
  const lost = names.filter((name) => found[name] === undefined)
  if (lost.length > 0) throw new Error(`${pin} has no ${lost.join(', ')}`)
  return found
}

/** More than the directory of the largest wheel there is. */
const MAX_DIRECTORY_BYTES = 4 * 2 ** 20

/** Fills a folder of the cache by pip, once; says what went wrong. */
const intoCache = (
  name: string,
  commands: (to: string) => readonly (readonly string[])[],
): string | undefined => {
  const system = systemPython()
  if (system.missing !== undefined) return system.missing
  if (existsSync(join(CACHE, name))) return undefined
  mkdirSync(CACHE, { recursive: true })
  const partial = mkdtempSync(join(CACHE, '.partial-'))
  try {
    for (const args of commands(partial)) {
      const ended = spawnSync(
        system.path,
        ['-m', 'pip', ...args, '--quiet', '--disable-pip-version-check', '--no-input'],
        { encoding: 'utf8', timeout: 120_000 },
      )
      if (ended.status !== 0)
        return `the package index does not answer: ${ended.stderr.trim().split('\n').at(-1) ?? ''}`
    }
    // Another worker may have been faster.
    if (!existsSync(join(CACHE, name))) renameSync(partial, join(CACHE, name))
    return undefined
  } finally {
    rmSync(partial, { recursive: true, force: true })
  }
}

const locate = (pin: string, uv: string): string => {
  const args = [
    'pip',
    'compile',
    '--no-config',
    '--no-deps',
    '--only-binary=:all:',
    '--format=pylock.toml',
    '-',
  ]
  const ended = spawnSync(uv, args, { input: `${pin}\n`, encoding: 'utf8', timeout: 60_000 })
  const url = /\burl = "([^"]+)"/.exec(ended.stdout)?.[1]
  if (url === undefined) throw new Error(`the index has no ${pin}: ${ended.stderr}`)
  return url
}

const readRange = async (
  url: string,
  from: number,
  to?: number,
): Promise<{ readonly bytes: Buffer; readonly start: number }> => {
  const range = from < 0 ? `bytes=${from}` : `bytes=${from}-${to ?? ''}`
  const answer = await fetch(url, { headers: { range }, signal: AbortSignal.timeout(60_000) })
  const start = /^bytes (\d+)-/.exec(answer.headers.get('content-range') ?? '')?.[1]
  if (answer.status !== 206 || start === undefined) throw new Error(`${url} does not answer with ranges`)
  return { bytes: Buffer.from(await answer.arrayBuffer()), start: Number(start) }
}
