import { AgentError } from '../contract/errors.ts'
import type { FetchReply } from './fetcher.ts'

export const isRedirect = ({ status }: FetchReply): boolean => [301, 302, 303, 307, 308].includes(status)

/**
 * Where a redirect leads, judged by what is written in it. Lets go of the reply.
 * @throws AgentError redirect_refused
 */
export const redirectTarget = (from: URL, reply: FetchReply, source: string): URL => {
  const location = reply.headers['location']
  const target =
    location !== undefined && URL.canParse(location, from.href) ? new URL(location, from.href) : undefined
  reply.discard()
  const refuse = (why: string): never => {
    throw new AgentError('redirect_refused', `${source} redirects ${why}`)
  }
  if (target === undefined) return refuse('without saying where to')
  if (target.protocol !== 'https:' && target.protocol !== 'http:') return refuse(`to ${target.protocol}`)
  if (from.protocol === 'https:' && target.protocol === 'http:')
    return refuse(`from https to plain http: ${target.origin}`)
  if (target.username || target.password) return refuse('to an address with a password in it')
  return target
}
