import { isUtf8 } from 'node:buffer'
import { AgentError } from '../../shared/contract/errors.ts'

/** Status line and header fields of a reply, and how its body is delimited. */
export type HttpHead = {
  readonly status: number
  /** Names in lower case; repeated fields joined with “, ”. */
  readonly headers: Readonly<Record<string, string>>
  readonly framing: Framing
  /** False when the server ends the connection after this reply. */
  readonly keepsAlive: boolean
}

/** Where a body ends: after a number of bytes, after its last chunk, or with the connection. */
export type Framing =
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'close' }

/** A longer head is not an answer but an attack on the memory. */
export const LONGEST_HEAD = 64 * 2 ** 10

const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/

/** The request as it goes over the wire. @throws AgentError internal for a header that would break out of its line */
export const formatRequest = (
  url: URL,
  { headers, body }: { readonly headers: Readonly<Record<string, string>>; readonly body?: string },
): string => {
  const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }
  const lines = Object.entries({ host: url.host, ...headers, ...length }).map(
    ([name, value]) => `${name}: ${value}`,
  )
  const bad = lines.find((line) => !FIELD.test(line))
  if (bad !== undefined) throw new AgentError('internal', `a request header is not one line`)
  const method = body === undefined ? 'GET' : 'POST'
  return `${method} ${url.pathname}${url.search} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n${body ?? ''}`
}

/** Names of files and addresses of redirects come as UTF-8, whatever the standard says; what is none is Latin-1. */
export const headText = (bytes: Buffer): string => bytes.toString(isUtf8(bytes) ? 'utf8' : 'latin1')

/**
 * Reads a reply's head. Whatever leaves it open where the body ends (two lengths, a length that is no number, a length
 * beside chunks, a line that is not a field) is refused: guessing there is how bodies end up in each other.
 * @throws AgentError source_unavailable
 */
export const parseHead = (text: string): HttpHead => {
  const [first = '', ...lines] = text.split('\r\n')
  const status = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(first)
  if (!status) throw broken(`its first line is ${JSON.stringify(first.slice(0, 60))}`)
  const headers: Record<string, string> = {}
  for (const line of lines) {
    const [, name, value = ''] = FIELD.exec(line) ?? []
    if (name === undefined) throw broken('a header is not one')
    const key = name.toLowerCase()
    const before = headers[key]
    headers[key] = before === undefined ? value : `${before}, ${value}`
  }
  const code = Number(status[2])
  const framing = framingOf(code, headers)
  const connection = headers['connection']?.toLowerCase() ?? ''
  return {
    status: code,
    headers,
    framing,
    keepsAlive:
      framing.kind !== 'close' &&
      !connection.includes('close') &&
      (status[1] === '1' || connection.includes('keep-alive')),
  }
}

const framingOf = (status: number, headers: Readonly<Record<string, string>>): Framing => {
  if (status < 200 || status === 204 || status === 304) return { kind: 'length', bytes: 0 }
  const coding = headers['transfer-encoding']
  const length = headers['content-length']
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked') throw broken(`its body is transferred as ${coding.slice(0, 60)}`)
    if (length !== undefined) throw broken('it names a length and chunks')
    return { kind: 'chunked' }
  }
  if (length === undefined) return { kind: 'close' }
  const [one = '', ...others] = length.split(',').map((part) => part.trim())
  const bytes = /^\d{1,16}$/.test(one) ? Number(one) : NaN
  if (!Number.isSafeInteger(bytes) || others.some((other) => other !== one))
    throw broken(`its Content-Length is ${JSON.stringify(length.slice(0, 60))}`)
  return { kind: 'length', bytes }
}

/** An answer that is not HTTP as it should be. */
export const broken = (why: string): AgentError =>
  new AgentError('source_unavailable', `the answer is broken: ${why}`)
