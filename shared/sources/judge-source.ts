import { AgentError, type Problem } from '../contract/errors.ts'
import type { PublishedFacts } from './published-facts.ts'

/** What the bytes must turn out to be. */
export type Expected = {
  readonly sizeBytes: number | null
  readonly sha256: string | null
  /** Only where there is no sha256. */
  readonly gitSha1: string | null
}

/** What a source says of its file. */
export type JudgedSource = { readonly reference: string } & Pick<
  PublishedFacts,
  'sizeBytes' | 'sha256' | 'gitSha1'
>

/** What the manifest says of a file. */
export type JudgedFile = {
  readonly to: string
  readonly sha256: string | null
  readonly sizeBytes: number | null
}

export type Judged = { readonly expected: Expected; readonly warning: Problem | null }

/**
 * Decides whether a source may be used, from what it publishes, what the primary publishes (undefined when it could not
 * be asked) and what the manifest says. A mirror is taken when one of them proves it to be the same file; with nothing
 * to compare it to, only by a hash of its own hub, and then with a warning.
 * @throws AgentError hash_mismatch, size_mismatch (the primary against the manifest), mirror_differs, mirror_unproven
 */
export const judgeSource = (
  source: JudgedSource,
  context: { readonly file: JudgedFile; readonly primary: JudgedSource | undefined },
): Judged => {
  const { file, primary } = context
  const isPrimary = source === primary
  const known: Expected = {
    sha256: file.sha256 ?? primary?.sha256 ?? null,
    gitSha1: primary?.gitSha1 ?? null,
    sizeBytes: file.sizeBytes ?? primary?.sizeBytes ?? null,
  }
  const differs = (code: 'hash_mismatch' | 'size_mismatch', what: string): AgentError =>
    new AgentError(isPrimary ? code : 'mirror_differs', `${source.reference} ${what}`)

  if (known.sha256 !== null && source.sha256 !== null && source.sha256 !== known.sha256)
    throw differs('hash_mismatch', `publishes the sha256 ${source.sha256}, expected is ${known.sha256}`)
  if (known.sizeBytes !== null && source.sizeBytes !== null && source.sizeBytes !== known.sizeBytes)
    throw differs('size_mismatch', `has ${source.sizeBytes} bytes, expected are ${known.sizeBytes}`)

  const expected: Expected = {
    sha256: known.sha256 ?? source.sha256,
    gitSha1: known.gitSha1 ?? source.gitSha1,
    sizeBytes: known.sizeBytes ?? source.sizeBytes,
  }
  if (isPrimary || known.sha256 !== null || known.gitSha1 !== null) return { expected, warning: null }
  if (expected.sha256 === null && expected.gitSha1 === null)
    throw new AgentError('mirror_unproven', `nothing proves that ${source.reference} is the same file`)
  return { expected, warning: unproven(source, file) }
}

const unproven = (source: JudgedSource, file: JudgedFile): Problem => ({
  code: 'mirror_unproven',
  severity: 'warning',
  subject: file.to,
  message: `${file.to} came from ${source.reference}, proven only by that source's own hash`,
  hint: 'Give sha256 in the manifest to prove the mirror.',
})
