import { AgentError } from '../../shared/contract/errors.ts'
import { type FetchReply, replyText } from '../../shared/sources/fetcher.ts'
import { validatorOf } from '../../shared/sources/published-facts.ts'
import { isRedirect, redirectTarget } from '../../shared/sources/redirect-target.ts'
import { askedDelayMs, isRetryableStatus } from '../../shared/sources/retry-after.ts'
import type { ByteRange } from './byte-ranges.ts'
import { refusePageType, refuseText } from './content-check.ts'
import { readRangeReply } from './range-reply.ts'
import type { TransferJob } from './transfer-job.ts'

/** A failure that may pass: the same request, a little later, can work. */
export class PassingFailure extends Error {
  readonly why: AgentError
  /** What the server asked to wait. */
  readonly askedMs: number | undefined

  constructor(why: AgentError, askedMs?: number) {
    super(why.message, { cause: why })
    this.why = why
    this.askedMs = askedMs
  }
}

/** An answer whose body may be written: from `range.start` on, up to `range.end` at most. */
export type Accepted = {
  readonly reply: FetchReply
  readonly range: ByteRange
  /** True when the server ignored the range and sends the file from its first byte. */
  readonly whole: boolean
}

/**
 * Asks for one range and accepts only an answer that is exactly that. A range is always sent: some content networks
 * refuse a very large file without one.
 * @throws PassingFailure, or AgentError for what does not pass
 */
export const requestRange = async (
  job: TransferJob,
  context: { readonly range: ByteRange; readonly signal: AbortSignal },
): Promise<Accepted> => {
  const { range, signal } = context
  const { source, rules } = job
  const { url, generation } = await job.address.current(signal)
  const end = range.end === Number.MAX_SAFE_INTEGER ? '' : range.end - 1
  const headers = { ...rules.headersFor(url), range: `bytes=${range.start}-${end}` }
  let reply: FetchReply
  try {
    reply = await job.fetch({ url: url.href, headers }, { signal })
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof AgentError && error.code === 'source_unavailable')
      throw new PassingFailure(
        new AgentError(error.code, `${source.reference}: ${error.message}`, { cause: error }),
      )
    throw error
  }
  if (reply.status !== 200 && reply.status !== 206)
    return await refuse(job, { url, generation, reply, signal })

  const read = readRangeReply(reply, { range, sizeBytes: source.sizeBytes })
  try {
    refusePageType(job.name, reply.headers['content-type'])
    refuseOtherVersion(job, reply)
    if (read.state === 'changed') {
      // A page or an error in the place of the file: what it says tells more than its length.
      if (reply.status === 200) refuseText(job.name, await replyText(reply))
      throw new AgentError(
        'source_changed',
        `${source.reference} has ${read.sizeBytes} bytes, it had ${source.sizeBytes ?? 'another size'}`,
      )
    }
    if (read.state === 'wrong')
      throw new PassingFailure(new AgentError('source_unavailable', `${source.reference}: ${read.why}`))
  } catch (error) {
    reply.discard()
    throw error
  }
  job.address.worked(generation)
  return read.state === 'whole'
    ? { reply, range: { start: 0, end: source.sizeBytes ?? Number.MAX_SAFE_INTEGER }, whole: true }
    : { reply, range: read.range, whole: false }
}

/** What a content host answers when a signed address is no good any more. */
const EXPIRED = [400, 401, 403]

const refuse = async (
  job: TransferJob,
  answer: {
    readonly url: URL
    readonly generation: number
    readonly reply: FetchReply
    readonly signal: AbortSignal
  },
): Promise<never> => {
  const { url, generation, reply, signal } = answer
  const why = await job.rules.explain(url, reply)
  if (isRedirect(reply)) {
    const target = (): URL => redirectTarget(url, reply, job.source.reference)
    await job.address.moved(generation, { target, refusal: why }, signal)
    throw new RenewedAddress()
  }
  if (EXPIRED.includes(reply.status) && !job.rules.isOwn(url)) {
    await job.address.refused(generation, why, signal)
    throw new RenewedAddress()
  }
  if (reply.status === 416)
    throw new AgentError('source_changed', `${job.source.reference} is shorter than it was`)
  if (reply.status === 429 || reply.status === 503) job.pace.overloaded(reply.status)
  if (isRetryableStatus(reply.status))
    throw new PassingFailure(why, askedDelayMs(reply.headers, job.clock.now()))
  throw why
}

/** Not a failure: the same range is to be asked for at the new address at once. */
export class RenewedAddress extends Error {}

/**
 * Where no hash will tell, a Last-Modified that differs from the first answer's means another version. ETags are not
 * compared here: the edges of one content network disagree about them.
 */
const refuseOtherVersion = (job: TransferJob, reply: FetchReply): void => {
  const { source } = job
  if (source.sha256 !== null || source.gitSha1 !== null || source.validator === null) return
  const validator = validatorOf(reply.headers)
  if (validator === null || validator.startsWith('"') || source.validator.startsWith('"')) return
  if (validator !== source.validator)
    throw new AgentError('source_changed', `${source.reference} changed while it was fetched`)
}
