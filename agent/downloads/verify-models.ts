import { AgentError, type Problem, problemFrom } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { Clock } from '../platform/clock.ts'
import { createFileRow, type FileRow } from './file-row.ts'
import { hashFile } from './hash-file.ts'
import type { Hasher } from './hasher.ts'
import { findMismatch } from './install-part.ts'
import type { KeptSnapshots } from './kept-snapshots.ts'
import type { Rows } from './rows.ts'
import { blobFiles, isLinked } from './snapshot-layout.ts'
import { createSnapshotRow } from './snapshot-row.ts'
import type { VerifiedFile, VerifiedFiles } from './verified-files.ts'

export type VerifyDeps = {
  readonly verified: VerifiedFiles
  readonly snapshots: KeptSnapshots
  readonly hasher: Hasher
  readonly rows: Rows
  readonly clock: Clock
  readonly report: Report
  /** Waits for whatever is at work on the same file. */
  readonly inTurn: <T>(path: string, work: () => Promise<T>) => Promise<T>
}

/**
 * Reads every byte of every file that was verified before, those of snapshots included. A file that is not what it was is
 * marked: it proves nothing any more, and the next run that wants it fetches it again. Returns what is wrong.
 * @throws the signal's reason
 */
export const verifyModels = async (
  deps: VerifyDeps,
  context: { readonly signal: AbortSignal },
): Promise<readonly Problem[]> => {
  const { verified, rows, clock } = deps
  const known = new Map(verified.all().map((file) => [file.path, file]))
  const problems: Problem[] = []
  // Commits of one repository share most of their blobs; each is read once.
  const read = new Map<string, Problem | undefined>()
  const verifyOnce = async (
    file: VerifiedFile,
    as: { row: FileRow; name: string },
  ): Promise<Problem | undefined> => {
    if (!read.has(file.path)) read.set(file.path, await verifyFile(file, { ...deps, ...context, ...as }))
    else showAgain(file, { problem: read.get(file.path), row: as.row })
    const problem = read.get(file.path)
    return problem && { ...problem, subject: as.name }
  }

  for (const kept of deps.snapshots.all()) {
    const planned = { ...kept, optional: false, allowPickle: true }
    const blobs = blobFiles(planned).map((file) => ({ file, row: createFileRow(file, clock) }))
    const row = createSnapshotRow(planned, { files: blobs.map((blob) => blob.row), now: clock.now })
    rows.put(kept.snapshot.to, row)
    const found: Problem[] = []
    for (const { file, row: blobRow } of blobs) {
      const before = known.get(file.path)
      const problem = before
        ? await verifyOnce(before, { row: blobRow, name: file.to })
        : damaged(file.to, 'it was never verified')
      if (problem) found.push(problem)
    }
    if (found.length === 0 && !(await isLinked(planned)))
      found.push(damaged(kept.snapshot.to, 'a link of it is missing'))
    row.end(found.length === 0 ? 'done' : 'failed', found[0] ?? null)
    problems.push(...found)
  }

  for (const file of known.values()) {
    if (read.has(file.path)) continue
    const name = rows.get(file.path)?.to ?? file.path
    const row = createFileRow({ ...file, to: name }, clock)
    rows.put(file.path, row)
    const problem = await verifyOnce(file, { row, name })
    if (problem) problems.push(problem)
  }
  return problems
}

const verifyFile = (
  file: VerifiedFile,
  context: VerifyDeps & { readonly row: FileRow; readonly name: string; readonly signal: AbortSignal },
): Promise<Problem | undefined> => {
  const { verified, row, name, signal } = context
  return context.inTurn(file.path, async () => {
    signal.throwIfAborted()
    row.update({ state: 'verifying', bytesTotal: file.sizeBytes, source: file.source })
    const expected = { sizeBytes: file.sizeBytes, sha256: file.sha256, gitSha1: null }
    let wrong: AgentError | undefined
    try {
      const hashes = await hashFile(
        { path: file.path, withGitSha1: false },
        { ...context, onHashed: row.add },
      )
      wrong = findMismatch(hashes, { expected, subject: name })
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof AgentError)) throw error
      wrong = error
    }
    if (wrong === undefined) {
      row.finish(await verified.add(file))
      return undefined
    }
    const problem = damaged(name, wrong.message)
    verified.markDamaged(file.path, wrong.message)
    row.update({ state: 'failed', problem, verifiedAt: null })
    context.report({ type: 'download.damaged', subject: name, data: { message: wrong.message } })
    return problem
  })
}

/** The row of a blob that was read for another snapshot. */
const showAgain = (
  file: VerifiedFile,
  { problem, row }: { readonly problem: Problem | undefined; readonly row: FileRow },
): void => {
  if (problem === undefined) row.finish(file)
  else row.update({ state: 'failed', problem, verifiedAt: null })
}

const damaged = (name: string, why: string): Problem =>
  problemFrom(new AgentError('file_damaged', `${name} is not what it was: ${why}`), name)
