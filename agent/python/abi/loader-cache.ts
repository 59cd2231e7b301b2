import { readFileSync } from 'node:fs'

const MAGIC = 'glibc-ld.so.cache1.1'
const HEAD_BYTES = 48
const ENTRY_BYTES = 24

/**
 * The libraries that the loader finds by name alone: name → paths, best first. Read from /etc/ld.so.cache itself,
 * whose format is that of glibc's dl-cache.h; empty where there is none (musl).
 */
export const readLoaderCache = (path = '/etc/ld.so.cache'): ReadonlyMap<string, readonly string[]> => {
  const found = new Map<string, string[]>()
  let cache: Buffer
  try {
    cache = readFileSync(path)
  } catch {
    return found
  }
  // An older form may come first; offsets count from the newer one.
  const start = cache.indexOf(MAGIC, 0, 'latin1')
  if (start < 0) return found
  const body = cache.subarray(start)
  const count = body.length < HEAD_BYTES ? 0 : body.readUInt32LE(20)
  for (let index = 0; index < count; index += 1) {
    const at = HEAD_BYTES + index * ENTRY_BYTES
    if (at + ENTRY_BYTES > body.length) break
    // Entries for particular processors are copies of a general one.
    if (body.readBigUInt64LE(at + 16) !== 0n) continue
    const name = textIn(body, body.readUInt32LE(at + 4))
    const paths = found.get(name)
    const target = textIn(body, body.readUInt32LE(at + 8))
    if (paths === undefined) found.set(name, [target])
    else paths.push(target)
  }
  return found
}

const textIn = (body: Buffer, at: number): string => {
  const end = body.indexOf(0, at)
  return body.toString('utf8', at, end < 0 ? at : end)
}
