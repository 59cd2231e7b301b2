import type { FetchReply } from './fetcher.ts'
import type { SourceReference } from './parse-source.ts'

/** What a source says about its file before a byte of it is fetched. */
export type PublishedFacts = {
  readonly sizeBytes: number | null
  /** Published by the hub; lower case. */
  readonly sha256: string | null
  /** SHA-1 of `blob <size>\0<bytes>`, which the hub publishes for small files instead of a sha256. */
  readonly gitSha1: string | null
  readonly commit: string | null
  /** Tells two versions of one file apart where no hash is published: Last-Modified, or a strong ETag. */
  readonly validator: string | null
}

export type Answer = { readonly url: URL; readonly reply: FetchReply; readonly onHub: boolean }

/**
 * Reads size and hash off the answers of one resolve, in the order they came. Only the hub's own answers (for a plain
 * address: those of its first host) publish a hash: the ETag of a content host is another 64-digit number, differs from
 * edge to edge, or is missing. The Content-Length of a redirect is the length of the redirect.
 */
export const readAnswers = (reference: SourceReference, answers: readonly Answer[]): PublishedFacts => {
  const own = answers.filter((answer) =>
    reference.kind === 'https' ? answer.url.origin === answers[0]?.url.origin : answer.onHub,
  )
  const published = (name: string): string | undefined =>
    own.map((answer) => answer.reply.headers[name]).find((value) => value !== undefined)
  const linked = entityTag(published('x-linked-etag'))
  const tag = linked ?? (reference.kind === 'hf' ? entityTag(published('etag')) : undefined)
  const last = answers.at(-1)
  return {
    sizeBytes: byteCount(published('x-linked-size')) ?? (last ? sizeOf(last.reply) : null),
    sha256: tag !== undefined && /^[0-9a-f]{64}$/i.test(tag) ? tag.toLowerCase() : null,
    gitSha1:
      reference.kind === 'hf' && tag !== undefined && /^[0-9a-f]{40}$/i.test(tag) ? tag.toLowerCase() : null,
    commit: commitOf(published('x-repo-commit')),
    validator: last && last.reply.status < 300 ? validatorOf(last.reply.headers) : null,
  }
}

/** Last-Modified before the ETag: the edges of one content network often disagree about the latter. */
export const validatorOf = (headers: Readonly<Record<string, string>>): string | null => {
  const etag = headers['etag']
  return headers['last-modified'] ?? (etag?.startsWith('"') ? etag : null)
}

/** The whole file's size by a reply that is not a redirect; null when it does not say. */
const sizeOf = (reply: FetchReply): number | null => {
  const { headers, status } = reply
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') return null
  if (status === 206 || status === 416)
    return byteCount(/\/(\d+)$/.exec(headers['content-range'] ?? '')?.[1]) ?? null
  return status === 200 ? (byteCount(headers['content-length']) ?? null) : null
}

const byteCount = (text: string | undefined): number | undefined => {
  if (text === undefined || !/^\d+$/.test(text)) return undefined
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : undefined
}

const entityTag = (text: string | undefined): string | undefined =>
  text?.replace(/^W\//, '').replaceAll('"', '').trim()

const commitOf = (text: string | undefined): string | null =>
  text !== undefined && /^[0-9a-f]{40}$/.test(text) ? text : null
