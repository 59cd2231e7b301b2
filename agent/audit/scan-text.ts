import type { FileHandle } from 'node:fs/promises'
import { TOKEN_SHAPES } from '../../shared/manifest/secret-patterns.ts'

export type KnownSecret = { readonly name: string; readonly value: string }

/** A secret in a text: which, on which line, and the line without it. */
export type Sighting = {
  /** The secret's name; null for what only looks like one. */
  readonly name: string | null
  readonly line: number
  readonly evidence: string
}

const CHUNK_BYTES = 2 ** 20
/** Longer than any token, so that one that lies across two chunks is seen in the second. */
const OVERLAP_BYTES = 4096
/** Of a log that grew over weeks the first 256 MiB are read: what writes a secret writes it early and often. */
const FILE_BYTES = 256 * 2 ** 20
const EVIDENCE_LENGTH = 120
// eslint-disable-next-line no-control-regex -- control characters are exactly what is taken out
const CONTROLS = /[\u0000-\u001f\u007f-\u009f]/g

/**
 * Looks for secrets in an open file, chunk by chunk; stops at the first one, since the file is to be dealt with as a
 * whole. A file with a NUL byte in its first chunk is no text and is passed over.
 */
export const scanFile = async (
  file: FileHandle,
  context: { readonly secrets: readonly KnownSecret[]; readonly signal: AbortSignal },
): Promise<Sighting | undefined> => {
  const buffer = Buffer.alloc(OVERLAP_BYTES + CHUNK_BYTES)
  let kept = 0
  let linesBefore = 0
  for (let offset = 0; offset < FILE_BYTES;) {
    context.signal.throwIfAborted()
    const { bytesRead } = await file.read(buffer, kept, CHUNK_BYTES, offset)
    if (bytesRead === 0) return undefined
    const chunk = buffer.subarray(0, kept + bytesRead)
    if (offset === 0 && chunk.includes(0)) return undefined
    const found = scanText(chunk.toString('utf8'), context.secrets)
    if (found !== undefined) return { ...found, line: found.line + linesBefore }
    const rest = chunk.subarray(Math.max(0, chunk.length - OVERLAP_BYTES))
    linesBefore += countLines(chunk.subarray(0, chunk.length - rest.length))
    kept = rest.copy(buffer, 0)
    offset += bytesRead
  }
  return undefined
}

/** The first secret in a text: a known value before what only has a token's shape. */
export const scanText = (text: string, secrets: readonly KnownSecret[]): Sighting | undefined => {
  for (const { name, value } of secrets) {
    const at = text.indexOf(value)
    if (at !== -1) return sighting(text, { name, at, length: value.length })
  }
  for (const shape of TOKEN_SHAPES) {
    const match = shape.exec(text)
    if (match !== null) return sighting(text, { name: null, at: match.index, length: match[0].length })
  }
  return undefined
}

/** The line with the secret taken out, short, and without what a terminal would obey. */
const sighting = (
  text: string,
  { name, at, length }: { readonly name: string | null; readonly at: number; readonly length: number },
): Sighting => {
  const start = text.lastIndexOf('\n', at) + 1
  const before = text.slice(start, at).slice(-EVIDENCE_LENGTH / 2)
  return {
    name,
    line: countLines(Buffer.from(text.slice(0, start))) + 1,
    // What follows the secret is left out: an unknown one may be longer than its shape.
    evidence: `${before}[${name ?? `${length} characters`}]`.replaceAll(CONTROLS, ' ').trim(),
  }
}

const countLines = (bytes: Buffer): number => {
  let lines = 0
  for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, at + 1)) lines += 1
  return lines
}
