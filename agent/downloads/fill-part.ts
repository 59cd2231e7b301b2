import { basename } from 'node:path'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import { resolveSource } from '../../shared/sources/resolve-source.ts'
import { formatSource, parseSource } from '../../shared/sources/parse-source.ts'
import type { ResolvedSource } from '../../shared/sources/resolved-source.ts'
import { freeBytes } from '../platform/files.ts'
import { inspectStart } from './content-check.ts'
import { copyTwin } from './copy-twin.ts'
import { createDataAddress } from './data-address.ts'
import type { FileContext } from './file-context.ts'
import { hashFile } from './hash-file.ts'
import type { FileHashes } from './hash-thread.ts'
import type { Expected } from '../../shared/sources/judge-source.ts'
import { discardPart, openPart, type PartFile, type PartIdentity } from './part-file.ts'
import type { PlannedFile } from './planned-file.ts'
import { createSourceRules } from './source-rules.ts'
import { transfer } from './transfer.ts'
import type { TransferJob } from './transfer-job.ts'

export type Chosen = {
  /** As the manifest wrote it: it may hold what its canonical spelling leaves out. */
  readonly reference: string
  readonly source: ResolvedSource
  readonly expected: Expected
}

type Filling = Chosen & {
  /** Other sources that ranges may come from at the same time. */
  readonly partners: readonly Chosen[]
}

const LOOK_FOR_ROOM_EVERY_MS = 3_000
/** Room for some seconds of work; less would only run full again at once. */
const ROOM_BYTES = 8 * 2 ** 20

/**
 * Completes the partial file from one source. A full disk is no failure: everything stops, the partial file and its
 * record stay, and it goes on by itself when there is room again. The bytes are hashed while they come.
 * @throws AgentError from the source, the content checks or the disk; the signal's reason
 */
export const fillPart = async (
  file: PlannedFile,
  context: FileContext & Filling & { readonly onDiskFull: () => Promise<void> },
): Promise<FileHashes> => {
  for (let pauses = 0; ; pauses += 1) {
    try {
      return await fillOnce(file, { ...context, isFirst: pauses === 0 })
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== 'disk_full') throw error
      context.row.update({
        state: 'waiting',
        problem: problemFrom(error, file.to, 'warning'),
        connections: 0,
      })
      if (pauses === 0)
        context.report({
          type: 'download.waiting',
          subject: file.to,
          data: { code: error.code, message: error.message },
        })
      await context.onDiskFull()
      await waitForRoom(file, context)
    }
  }
}

const fillOnce = async (
  file: PlannedFile,
  context: FileContext & Filling & { readonly isFirst: boolean },
): Promise<FileHashes> => {
  const { row, signal, clock } = context
  // A source that does not say its size is believed to have the known one.
  const source = { ...context.source, sizeBytes: context.source.sizeBytes ?? context.expected.sizeBytes }
  const part = await openPart(file.path, {
    identity: identityOf(source, context.expected),
    clock,
    recordEveryMs: context.limits.recordEveryMs,
    root: file.root,
  })
  const gitSizeBytes = context.expected.gitSha1 === null ? null : source.sizeBytes
  const follower = context.hasher.follow({ path: part.path, gitSizeBytes })
  const followPrefix = (): void => {
    const [first] = part.book.done()
    if (first?.start === 0) follower.advance(first.end)
  }
  try {
    followPrefix()
    row.update({
      state: 'downloading',
      problem: null,
      bytesDone: part.resumedBytes,
      bytesTotal: source.sizeBytes,
      sha256: context.expected.sha256,
    })
    if (context.isFirst) announce(file, { ...context, part, source })
    const progress = {
      onBytes: (bytes: number) => {
        row.add(bytes)
        followPrefix()
      },
      onRestart: () => {
        row.update({ bytesDone: 0 })
        follower.restart()
      },
    }
    if (context.twin !== undefined) {
      // Should the copy be wrong, it is the twin that is.
      await part.restart()
      progress.onRestart()
      await copyTwin(context.twin, { part, onBytes: progress.onBytes, signal })
    } else {
      const jobs = context.partners.map((chosen) => makeJob(file, { ...context, ...chosen, part, progress }))
      await transfer([makeJob(file, { ...context, source, part, progress }), ...jobs], { signal })
    }
    // The checks that had too few bytes so far: a short answer of unknown length ends before they can decide.
    const sizeBytes = part.book.doneBytes()
    await inspectStart({ name: contentName(file), sizeBytes, availableBytes: sizeBytes, read: part.read })
    row.update({ state: 'verifying', connections: 0 })
    const [hashes] = await Promise.all([follower.finish(sizeBytes, { signal }), part.close()])
    // A git hash begins with the size, which this source did not say.
    return context.expected.gitSha1 !== null && gitSizeBytes === null
      ? await hashFile({ path: part.path, withGitSha1: true }, context)
      : hashes
  } catch (error) {
    // What failed first is what counts; the record is written as far as that is possible.
    await part.close().catch(() => undefined)
    // A partial file without a byte is nothing to go on from.
    if (part.book.doneBytes() === 0) await discardPart(file.path)
    // The first bytes may be an earlier attempt's, and lost in a crash: they are fetched again before the source is blamed.
    if (part.resumedBytes > 0 && error instanceof AgentError && error.code === 'not_a_model')
      throw new AgentError('source_changed', `what an earlier attempt left of ${file.to} is damaged`, {
        cause: error,
      })
    throw error
  } finally {
    follower.drop()
  }
}

const makeJob = (
  file: PlannedFile,
  context: FileContext &
    Chosen & { readonly part: PartFile; readonly progress: Pick<TransferJob, 'onBytes' | 'onRestart'> },
): TransferJob => {
  const { source, row, clock, progress } = context
  const pace = context.paceOf(new URL(source.dataUrl).host)
  return {
    name: contentName(file),
    source,
    part: context.part,
    clock,
    pace,
    fetch: context.fetch,
    limits: context.limits,
    bandwidth: context.bandwidth,
    rules: createSourceRules(source, context.resolve),
    address: createDataAddress(source, {
      clock,
      renew: (signal) => resolveSource(pinned(context), { ...context.resolve, signal }),
    }),
    onBytes: (bytes) => {
      pace.add(bytes)
      progress.onBytes(bytes)
    },
    onRetry: row.countRetry,
    onConnections: (connections) => row.update({ connections }),
    onRestart: progress.onRestart,
    onSourceFailed: (error) => {
      const { code, message } = problemFrom(error, file.to)
      context.report({
        type: 'download.source-failed',
        subject: file.to,
        data: { source: source.reference, code, message, next: null },
      })
    },
  }
}

const contentName = (file: PlannedFile): string => file.contentName ?? basename(file.path)

const identityOf = (source: ResolvedSource, expected: Expected): PartIdentity => ({
  sizeBytes: source.sizeBytes,
  sha256: expected.sha256,
  version:
    expected.sha256 === null
      ? `${source.reference} ${expected.gitSha1 ?? source.validator ?? source.commit ?? ''}`
      : null,
})

/** Asked for again, a branch may have moved; the commit that the first answer named has not. */
const pinned = ({ reference, source, resolve }: FileContext & Chosen): string => {
  const parsed = parseSource(reference, resolve)
  return parsed.kind === 'hf' && source.commit !== null
    ? formatSource({ ...parsed, revision: source.commit })
    : reference
}

const announce = (
  file: PlannedFile,
  context: FileContext & { readonly part: PartFile; readonly source: ResolvedSource },
): void => {
  const { part, source } = context
  context.report({
    type: part.resumedBytes > 0 ? 'download.resumed' : 'download.started',
    subject: file.to,
    data: {
      source: source.reference,
      sizeBytes: source.sizeBytes,
      commit: source.commit,
      resumedBytes: part.resumedBytes,
      ...(context.twin === undefined ? {} : { copiedFrom: context.twin }),
      ...(part.discarded ? { discardedBytes: part.discarded.bytes, discarded: part.discarded.why } : {}),
    },
  })
}

const waitForRoom = async (file: PlannedFile, context: FileContext): Promise<void> => {
  const { bytesDone, bytesTotal } = context.row.read()
  const missing = bytesTotal === null ? ROOM_BYTES : Math.max(0, bytesTotal - bytesDone)
  do await context.clock.sleep(LOOK_FOR_ROOM_EVERY_MS, context.signal)
  while ((await freeBytes(file.path)) < Math.min(ROOM_BYTES, missing))
}
