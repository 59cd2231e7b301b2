import { AgentError, type ErrorCode } from '../contract/errors.ts'
import type { Endpoints } from './endpoints.ts'
import type { SourceReference } from './parse-source.ts'

export type Refusal = {
  readonly source: string
  readonly reference: SourceReference
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** The first part of the body, as text. */
  readonly text: string
  /** True when the request carried the hub's token. */
  readonly withToken: boolean
  /** True when the hub itself answered, false for a content host or any other place. */
  readonly fromHub: boolean
  readonly endpoints: Endpoints
}

/** What a refusing answer means, in the words of the error table, with what to do about it. */
export const explainRefusal = (refusal: Refusal): AgentError => {
  const { reference, fromHub } = refusal
  const [code, what, hint] =
    (fromHub && reference.kind === 'hf' ? explainHub(refusal, reference) : undefined) ??
    (fromHub && reference.kind === 'civitai' ? explainCivitai(refusal) : undefined) ??
    explainAny(refusal)
  return new AgentError(code, `${refusal.source}: ${what} (HTTP ${refusal.status})`, hint ? { hint } : {})
}

/** True when the token itself may be what is refused: the same file may be public. */
export const refusesToken = (refusal: Refusal): boolean =>
  refusal.fromHub &&
  refusal.withToken &&
  refusal.status === 401 &&
  !/gatedrepo/i.test(refusal.headers['x-error-code'] ?? '') &&
  !/disabled downloads/i.test(message(refusal))

type Explanation = readonly [code: ErrorCode, what: string, hint?: string] | undefined

const explainHub = (refusal: Refusal, reference: Extract<SourceReference, { kind: 'hf' }>): Explanation => {
  const { status, withToken } = refusal
  const code = (refusal.headers['x-error-code'] ?? '').toLowerCase()
  const said = message(refusal)
  const type = reference.repoType === 'model' ? '' : `${reference.repoType}s/`
  const page = `${refusal.endpoints.hf}/${type}${reference.repo}`

  if (code === 'revisionnotfound')
    return ['revision_not_found', `${reference.repo} has no revision ${reference.revision}`]
  if (code === 'entrynotfound')
    return ['source_not_found', `${reference.repo}@${reference.revision} has no file ${reference.path}`]
  if (code === 'gatedrepo')
    return [
      'gated',
      withToken
        ? status === 401
          ? `${reference.repo} is gated and the token was not accepted`
          : `${reference.repo} is gated and the token's account has no access`
        : `${reference.repo} is gated and there is no token`,
      withToken
        ? `Accept the terms at ${page} with the token's account; a fine-grained token also needs the permission to read public gated repositories.`
        : `Accept the terms at ${page}, then give that account's token as the secret HF_TOKEN.`,
    ]
  if (/access to this resource is disabled/i.test(said))
    return ['repository_disabled', `the hub disabled ${reference.repo}`]
  if (status === 401 && /invalid credentials/i.test(said))
    return ['bad_token', `the hub does not accept the token HF_TOKEN`]
  if (code === 'reponotfound' || status === 401)
    return [
      'repository_not_found',
      withToken
        ? `${reference.repo} does not exist, or the token may not read it`
        : `${reference.repo} does not exist, or is private`,
      withToken
        ? `Check the name; if it is private, use a token that may read it.`
        : `Check the name; if it is private, give a token that may read it as the secret HF_TOKEN.`,
    ]
  if (status === 403)
    return [
      'source_refused',
      `the hub refuses access to ${reference.repo}: ${excerpt(said)}`,
      `Check the permissions of the token, and ${page}.`,
    ]
  return undefined
}

const explainCivitai = (refusal: Refusal): Explanation => {
  const { status, withToken } = refusal
  const said = message(refusal)
  if (status === 401 && /disabled downloads/i.test(said))
    return [
      'source_refused',
      'the creator disabled downloads of this file',
      'Use another source; no token helps.',
    ]
  if (status === 401 || /^3/.test(String(status)))
    return withToken
      ? ['bad_token', 'Civitai does not accept the token CIVITAI_TOKEN']
      : [
          'login_required',
          'the creator requires a login',
          'Give a Civitai API key as the secret CIVITAI_TOKEN.',
        ]
  if (status === 403 && /early access/i.test(said))
    return [
      'gated',
      'the version is in early access',
      `Get early access on ${refusal.endpoints.civitai} with the token's account, or wait until it ends.`,
    ]
  if (status === 410) return ['archived', 'the version was archived']
  // Civitai answers 404 for a failing store too, then marked as not to be kept.
  if (isPassing(refusal)) return ['source_unavailable', 'the store of Civitai fails']
  return undefined
}

/** True when a 404 of Civitai is its store failing for a moment, which it marks as not to be kept. */
export const isPassing = (refusal: Refusal): boolean =>
  refusal.fromHub &&
  refusal.reference.kind === 'civitai' &&
  refusal.status === 404 &&
  /no-store/i.test(refusal.headers['cache-control'] ?? '')

const explainAny = (refusal: Refusal): readonly [ErrorCode, string, string?] => {
  const { status } = refusal
  if (status === 401)
    return [
      'login_required',
      'it wants a login',
      'Use a source that needs none, or the hub’s own hf:// or civitai:// form with its token.',
    ]
  if (status === 404 || status === 410)
    return ['source_not_found', 'there is no such file', 'Check the address.']
  if (status === 429) return ['rate_limited', `too many requests${limitText(refusal)}`]
  if (status >= 500 || status === 408) return ['source_unavailable', `the server fails`]
  return ['source_refused', excerpt(message(refusal)) || 'it refuses']
}

const limitText = (refusal: Refusal): string => {
  const seconds = /r=0\b.*?\bt=(\d+)/.exec(refusal.headers['ratelimit'] ?? '')?.[1]
  return seconds ? `, free again in ${seconds} s` : ''
}

/** The hub's header, or the `message` or `error` of a JSON body, or a short text. */
const message = (refusal: Refusal): string => {
  const header = refusal.headers['x-error-message']
  if (header) return header
  try {
    const body: unknown = JSON.parse(refusal.text)
    if (typeof body === 'object' && body !== null)
      for (const name of ['message', 'error'] as const) {
        const value: unknown = Reflect.get(body, name)
        if (typeof value === 'string') return value
      }
  } catch {
    // Not JSON: the text itself is the message.
  }
  return refusal.text
}

const excerpt = (text: string): string =>
  text
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ')
    .trim()
    .slice(0, 160)
