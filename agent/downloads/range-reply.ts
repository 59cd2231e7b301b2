import type { FetchReply } from '../../shared/sources/fetcher.ts'
import type { ByteRange } from './byte-ranges.ts'

/** What an answer to a ranged request is good for. */
export type RangeReply =
  /** The bytes of `range`, which may end before what was asked. */
  | { readonly state: 'range'; readonly range: ByteRange }
  /** The whole file from its start: the range was ignored. */
  | { readonly state: 'whole' }
  /** The file has another size than it had: it changed. */
  | { readonly state: 'changed'; readonly sizeBytes: number }
  /** Not what was asked for; asking again elsewhere may help. */
  | { readonly state: 'wrong'; readonly why: string }

/**
 * Decides what a 200 or 206 really carries. Content networks answer ranges wrongly often enough (a shifted start, a
 * missing Content-Range, a compressed body) that nothing is written on trust.
 */
export const readRangeReply = (
  reply: FetchReply,
  asked: { readonly range: ByteRange; readonly sizeBytes: number | null },
): RangeReply => {
  const { headers, status } = reply
  const encoding = headers['content-encoding'] ?? 'identity'
  if (encoding !== 'identity') return { state: 'wrong', why: `the body is encoded as ${encoding}` }
  const length = headers['content-length']
  if (length !== undefined && !/^\d+$/.test(length))
    return { state: 'wrong', why: `Content-Length is ${JSON.stringify(length)}` }

  if (status === 200) {
    if (length !== undefined && asked.sizeBytes !== null && Number(length) !== asked.sizeBytes)
      return { state: 'changed', sizeBytes: Number(length) }
    return { state: 'whole' }
  }
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(headers['content-range'] ?? '')
  if (!match) return { state: 'wrong', why: 'a partial answer does not say which part it is' }
  const [start, end] = [Number(match[1]), Number(match[2]) + 1]
  if (match[3] !== '*' && asked.sizeBytes !== null && Number(match[3]) !== asked.sizeBytes)
    return { state: 'changed', sizeBytes: Number(match[3]) }
  if (start !== asked.range.start || end <= start || end > asked.range.end)
    return {
      state: 'wrong',
      why: `asked for byte ${asked.range.start} on, was sent byte ${start} to ${end - 1}`,
    }
  if (length !== undefined && Number(length) !== end - start)
    return { state: 'wrong', why: `${length} bytes are announced for a part of ${end - start}` }
  return { state: 'range', range: { start, end } }
}
