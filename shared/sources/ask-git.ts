import { AgentError } from '../contract/errors.ts'
import { checkAddress } from './address-policy.ts'
import type { FetchReply } from './fetcher.ts'
import type { ResolveContext } from './resolved-source.ts'
import { askedDelayMs, backoffMs, isRetryableStatus, LONGEST_WAIT_MS } from './retry-after.ts'

/*
 * Whether a git repository has a branch, a tag or a commit, asked over https without git and without fetching it: git's
 * smart protocol, version 2 (gitprotocol-v2). A commit that no branch points at is proven by beginning to fetch it.
 */

export type GitRef = { readonly git: string; readonly ref: string }

/** The folder that a clone gets: the last part of the address without `.git`, as git itself would name it. */
export const nodeFolderName = (git: string): string =>
  (
    git
      .replace(/[?#].*$/, '')
      .replace(/\/+$/, '')
      .split('/')
      .at(-1) ?? ''
  ).replace(/\.git$/, '')

const COMMIT = /^[0-9a-f]{40}$/i
const MOST_REDIRECTS = 3
/** The refs of a repository that does not know version 2 all come at once. */
const MOST_BYTES = 16 * 2 ** 20

/**
 * The commit that a ref stands for; null when it is a commit and the server does not tell whether it has it.
 * @throws AgentError repository_not_found, revision_not_found, source_unavailable, source_refused, rate_limited,
 * forbidden_address, redirect_refused; the signal's reason
 */
export const askGitRef = async (wanted: GitRef, context: ResolveContext): Promise<string | null> => {
  const attempts = context.attempts ?? 4
  for (let failures = 1; ; failures += 1) {
    const asked = await askOnce(wanted, context)
    if ('found' in asked) return asked.found
    const delayMs = asked.askedMs ?? backoffMs(failures)
    if (!asked.mayPass || failures >= attempts || delayMs > LONGEST_WAIT_MS) throw asked.error
    await context.clock.sleep(delayMs, context.signal)
  }
}

type Asked =
  | { readonly found: string | null }
  | { readonly error: unknown; readonly mayPass: boolean; readonly askedMs: number | undefined }

const askOnce = async (wanted: GitRef, context: ResolveContext): Promise<Asked> => {
  try {
    const opened = await openRepository(wanted.git, context)
    return { found: await findCommit(wanted, { ...context, ...opened }) }
  } catch (error) {
    context.signal.throwIfAborted()
    if (error instanceof GitRefusal)
      return { error: error.cause, mayPass: isRetryableStatus(error.status), askedMs: error.askedMs }
    return {
      error,
      mayPass: error instanceof AgentError && error.code === 'source_unavailable',
      askedMs: undefined,
    }
  }
}

/** An answer of the server that says no, with what decides about asking again. */
class GitRefusal extends Error {
  readonly status: number
  readonly askedMs: number | undefined
  constructor(error: AgentError, answer: { readonly status: number; readonly askedMs: number | undefined }) {
    super(error.message, { cause: error })
    this.status = answer.status
    this.askedMs = answer.askedMs
  }
}

type Opened = {
  /** Where the repository is after redirects, without a slash at its end. */
  readonly base: string
  /** Packets of the advertisement: capabilities, or with an old or a plain server all refs. */
  readonly lines: readonly string[]
}

const V2 = { 'git-protocol': 'version=2', 'user-agent': 'git/2.40 (gpu-agent)' }
const INFO = '/info/refs'

const openRepository = async (git: string, context: ResolveContext): Promise<Opened> => {
  let url = new URL(`${git.replace(/\/+$/, '')}${INFO}?service=git-upload-pack`)
  for (let hops = 0; ; hops += 1) {
    checkAddress(url, context)
    const reply = await context.fetch(
      { url: url.href, headers: { ...V2, 'accept-encoding': 'identity' } },
      context,
    )
    const { location } = reply.headers
    if (reply.status >= 300 && reply.status < 400 && location !== undefined) {
      reply.discard()
      const next = URL.canParse(location, url.href) ? new URL(location, url.href) : undefined
      if (next === undefined || hops >= MOST_REDIRECTS || !next.pathname.endsWith(INFO))
        throw new AgentError('redirect_refused', `${git} redirects elsewhere`)
      url = next
      continue
    }
    const text = await readAnswer(reply, { ...context, git })
    const packets = packetLines(text)
    const isSmart = packets.some((line) => /^(# service=git-upload-pack|version 2)/.test(line))
    const lines = isSmart ? packets : plainLines(text)
    if (lines.length === 0)
      throw new AgentError('source_refused', `${git} is not a git repository`, {
        hint: 'Give the address that git clone takes.',
      })
    return { base: url.href.slice(0, url.href.indexOf(INFO)), lines }
  }
}

const findCommit = async ({ git, ref }: GitRef, context: ResolveContext & Opened): Promise<string | null> => {
  const knowsV2 = context.lines.some((line) => line.startsWith('version 2'))
  if (COMMIT.test(ref)) {
    const commit = ref.toLowerCase()
    if (context.lines.some((line) => line.startsWith(commit))) return commit
    if (!knowsV2) return null
    const answer = await post(['command=fetch', null, 'no-progress', 'deepen 1', `want ${commit}`, 'done'], {
      ...context,
      git,
      // What follows is the pack itself, which is not wanted.
      enough: 'packfile',
    })
    const refused = answer.find((line) => line.startsWith('ERR '))
    if (refused === undefined) return commit
    if (!/not our ref|not found|bad object/i.test(refused)) return null
    throw new AgentError('revision_not_found', `${git} has no commit ${commit}`)
  }
  const names = [`refs/tags/${ref}`, `refs/heads/${ref}`, ref]
  const listed = knowsV2
    ? await post(['command=ls-refs', null, 'peel', ...names.map((name) => `ref-prefix ${name}`)], {
        ...context,
        git,
      })
    : context.lines
  const found = commitOf(listed, names)
  if (found !== undefined) return found
  throw new AgentError('revision_not_found', `${git} has no branch or tag ${ref}`)
}

/** Version 2 writes `OID NAME peeled:OID`; before it, what a tag stands for is a line of its own, `OID NAME^{}`. */
const commitOf = (lines: readonly string[], names: readonly string[]): string | undefined => {
  const commits = new Map<string, string>()
  for (const line of lines) {
    const [oid, rest] = [line.slice(0, 40), line.slice(41)]
    if (!COMMIT.test(oid)) continue
    const [name = '', ...more] = (rest.split('\0')[0] ?? '').trim().split(' ')
    const peeled = more.find((one) => one.startsWith('peeled:'))?.slice('peeled:'.length)
    commits.set(name.replace(/\^\{\}$/, ''), peeled ?? oid)
  }
  return names.map((name) => commits.get(name)).find((commit) => commit !== undefined)
}

/** Sends one command of version 2 and returns its packets; null is the delimiter between its parts. */
const post = async (
  lines: readonly (string | null)[],
  context: ResolveContext & { readonly base: string; readonly git: string; readonly enough?: string },
): Promise<readonly string[]> => {
  const packets = lines.map((line) => (line === null ? '0001' : packet(`${line}\n`)))
  const reply = await context.fetch(
    {
      url: `${context.base}/git-upload-pack`,
      headers: {
        ...V2,
        'accept-encoding': 'identity',
        'content-type': 'application/x-git-upload-pack-request',
        accept: 'application/x-git-upload-pack-result',
      },
      body: `${packets.join('')}0000`,
    },
    context,
  )
  return packetLines(await readAnswer(reply, context))
}

const packet = (line: string): string =>
  `${(Buffer.byteLength(line) + 4).toString(16).padStart(4, '0')}${line}`

const readAnswer = async (
  reply: FetchReply,
  context: ResolveContext & { readonly git: string; readonly enough?: string },
): Promise<string> => {
  if (reply.status !== 200) {
    reply.discard()
    throw new GitRefusal(explain(reply.status, context.git), {
      status: reply.status,
      askedMs: askedDelayMs(reply.headers, context.clock.now()),
    })
  }
  let text = ''
  try {
    for await (const chunk of reply.body) {
      text += Buffer.from(chunk).toString('latin1')
      if (text.length > MOST_BYTES)
        throw new AgentError('source_refused', `${context.git} answers with too much`)
      if (context.enough !== undefined && text.includes(context.enough)) break
    }
  } finally {
    reply.discard()
  }
  return text
}

/** The refs as a plain file server hands them out (git update-server-info); of anything else none. */
const plainLines = (text: string): readonly string[] => {
  const lines = text.split('\n').filter((line) => line !== '')
  return lines.every((line) => /^[0-9a-f]{40}\t\S+$/.test(line))
    ? lines.map((line) => line.replace('\t', ' '))
    : []
}

/** The lines of a stream of packets; stops at what is no packet, so a web page has none. */
const packetLines = (text: string): string[] => {
  const lines: string[] = []
  for (let at = 0; at + 4 <= text.length;) {
    const length = Number.parseInt(text.slice(at, at + 4), 16)
    if (Number.isNaN(length) || length === 3) return lines
    if (length > 4) lines.push(text.slice(at + 4, at + length).replace(/\n$/, ''))
    at += Math.max(4, length)
  }
  return lines
}

const explain = (status: number, git: string): AgentError => {
  if ([401, 403, 404, 410].includes(status))
    return new AgentError('repository_not_found', `${git} does not exist, or is private (HTTP ${status})`, {
      hint: 'Check the address; only public repositories can be cloned.',
    })
  if (status === 429) return new AgentError('rate_limited', `${git}: too many requests (HTTP 429)`)
  if (isRetryableStatus(status))
    return new AgentError('source_unavailable', `${git}: the server fails (HTTP ${status})`)
  return new AgentError('source_refused', `${git}: the server refuses (HTTP ${status})`)
}
