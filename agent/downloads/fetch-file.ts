import { lstat } from 'node:fs/promises'
import { AgentError, type ErrorCode, type Problem, problemFrom } from '../../shared/contract/errors.ts'
import { formatSource, parseSource } from '../../shared/sources/parse-source.ts'
import { resolveSource } from '../../shared/sources/resolve-source.ts'
import type { ResolvedSource } from '../../shared/sources/resolved-source.ts'
import { claimPath, type HeldClaim, takeClaim } from './claim.ts'
import { checkDestination } from './destination.ts'
import type { FileContext } from './file-context.ts'
import { fetchFromSource } from './fetch-from-source.ts'
import { findPartners } from './find-partners.ts'
import { hashFile } from './hash-file.ts'
import { findMismatch } from './install-part.ts'
import { type Expected, judgeSource } from '../../shared/sources/judge-source.ts'
import { discardPart } from './part-file.ts'
import type { PlannedFile } from './planned-file.ts'
import { findProven } from './proven.ts'
import type { VerifiedFile } from './verified-files.ts'

/**
 * Brings one file to its destination, verified: by what is there already, else from its sources in their order. Why a
 * source was given up is reported before the next one is asked. Returns a warning, or null.
 * @throws AgentError of the primary source when none gave the file; of the destination or the disk; the signal's reason
 */
export const fetchFile = async (file: PlannedFile, context: FileContext): Promise<Problem | null> => {
  const { row } = context
  await checkDestination(file)
  const proven = await findProven(file, context)
  if (proven) {
    row.finish(proven)
    return null
  }
  const claim = await waitForClaim(file, context)
  try {
    return await fetchClaimed(file, context)
  } finally {
    await claim.release()
  }
}

const LOOK_AT_CLAIM_EVERY_MS = 1_000

/** Another agent writes this very file: what it leaves is looked at afterwards. */
const waitForClaim = async (file: PlannedFile, context: FileContext): Promise<HeldClaim> => {
  const { row, signal } = context
  for (let waits = 0; ; waits += 1) {
    const claim = await takeClaim(file.path)
    if (claim !== undefined) return claim
    const error = new AgentError('busy', `another agent holds ${claimPath(file.path)}`)
    row.update({ state: 'waiting', problem: problemFrom(error, file.to, 'warning') })
    if (waits === 0)
      context.report({
        type: 'download.waiting',
        subject: file.to,
        data: { code: error.code, message: error.message },
      })
    await context.clock.sleep(LOOK_AT_CLAIM_EVERY_MS, signal)
  }
}

const fetchClaimed = async (file: PlannedFile, context: FileContext): Promise<Problem | null> => {
  const { row, signal } = context
  row.update({ problem: null })
  const stated: Expected = { sha256: file.sha256, sizeBytes: file.sizeBytes, gitSha1: null }
  if (await keepExisting(file, { ...context, expected: stated, reference: null })) return null

  const failures: AgentError[] = []
  let primary: ResolvedSource | undefined
  for (const [index, reference] of file.from.entries()) {
    row.update({ state: 'resolving', source: nameOf(reference, context) })
    try {
      const source =
        context.resolve.recent?.take(reference) ??
        (await resolveSource(reference, { ...context.resolve, signal }))
      if (index === 0) primary = source
      const { expected, warning } = judgeSource(source, { file, primary })
      const chosen = { ...context, reference, source, expected }
      if (file.sha256 === null && (await keepExisting(file, { ...chosen, reference: source.reference })))
        return warning
      if (file.keepsOther === true && (await exists(file.path))) throw holdsOther(file)
      await fetchFromSource(file, { ...chosen, partners: await findPartners(file, { ...chosen, primary }) })
      return warning
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof AgentError) || LOCAL.includes(error.code)) throw error
      failures.push(error)
      const next = file.from[index + 1]
      context.report({
        type: 'download.source-failed',
        subject: file.to,
        data: {
          source: nameOf(reference, context),
          code: error.code,
          message: error.message,
          next: next === undefined ? null : nameOf(next, context),
        },
      })
    }
  }
  throw summarize(file, failures)
}

/** Failures of the box itself: another source would meet them too. */
const LOCAL: readonly ErrorCode[] = ['disk_full', 'read_only', 'io_error', 'destination_invalid', 'internal']

/** Takes a file that is there already when its bytes are the right ones; there must be a hash to say so. */
const keepExisting = async (
  file: PlannedFile,
  context: FileContext & { readonly expected: Expected; readonly reference: string | null },
): Promise<boolean> => {
  const { expected, row } = context
  if (expected.sha256 === null && expected.gitSha1 === null) return false
  const stats = await lstat(file.path).catch(() => undefined)
  if (stats === undefined) return false
  if (expected.sizeBytes !== null && stats.size !== expected.sizeBytes) return false
  row.update({ state: 'verifying', bytesDone: 0, bytesTotal: stats.size })
  const hashes = await hashFile(
    { path: file.path, withGitSha1: expected.gitSha1 !== null },
    { ...context, onHashed: row.add },
  )
  if (findMismatch(hashes, { expected, subject: file.to })) {
    row.update({ bytesDone: 0, bytesTotal: expected.sizeBytes })
    return false
  }
  const verified: VerifiedFile = await context.verified.add({
    path: file.path,
    source: context.reference,
    sizeBytes: hashes.sizeBytes,
    sha256: hashes.sha256,
  })
  await discardPart(file.path)
  row.finish(verified)
  return true
}

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  )

const holdsOther = (file: PlannedFile): AgentError =>
  new AgentError('destination_invalid', `${file.path} is there and is not this file`, {
    hint: 'Choose another place with --to, or remove the file first.',
  })

/** Without secrets, also where it is not a source at all. */
const nameOf = (reference: string, { resolve }: FileContext): string => {
  try {
    return formatSource(parseSource(reference, resolve))
  } catch {
    return reference.replace(/\?.*/s, '')
  }
}

/** The primary's failure is what its user must mend; the mirrors' are told with it. */
const summarize = (file: PlannedFile, failures: readonly AgentError[]): AgentError => {
  const [first, ...others] = failures
  if (first === undefined) return new AgentError('bad_request', `${file.to} has no source`)
  if (others.length === 0) return first
  return new AgentError(
    first.code,
    `no source gave ${file.to}: ${failures.map((failure) => failure.message).join('; ')}`,
    { hint: first.hint, cause: first },
  )
}
