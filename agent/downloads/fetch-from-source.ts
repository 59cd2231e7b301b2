import { readdir, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import { judgeSource } from '../../shared/sources/judge-source.ts'
import { resolveSource } from '../../shared/sources/resolve-source.ts'
import type { FileContext } from './file-context.ts'
import { type Chosen, fillPart } from './fill-part.ts'
import { installPart } from './install-part.ts'
import { discardPart } from './part-file.ts'
import type { PlannedFile } from './planned-file.ts'
import type { VerifiedFile } from './verified-files.ts'

/**
 * Fetches and verifies from one source; wrong bytes and a file that changed under the transfer get one new attempt, and
 * a file of this box that turns out to be damaged is not copied again.
 * @throws AgentError why the source did not give the file; from the disk; the signal's reason
 */
export const fetchFromSource = async (
  file: PlannedFile,
  first: FileContext & Chosen & { readonly partners: readonly Chosen[] },
): Promise<void> => {
  const { row, signal } = first
  const startedMs = first.clock.monotonicMs()
  let chosen = first
  let mismatches = 0
  let changes = 0
  let isQuarantined = false
  try {
    for (;;) {
      const twin = await findTwin(chosen)
      try {
        const onDiskFull = (): Promise<void> => removeQuarantined(file.path)
        const hashes = await fillPart(file, { ...chosen, twin: twin?.path, onDiskFull })
        const reference = chosen.source.reference
        const verified = await installPart(file, { ...chosen, reference, hashes })
        row.finish(verified)
        first.report({
          type: 'download.done',
          subject: file.to,
          data: {
            source: verified.source,
            sizeBytes: verified.sizeBytes,
            sha256: verified.sha256,
            seconds: Math.round((first.clock.monotonicMs() - startedMs) / 100) / 10,
          },
        })
        return
      } catch (error) {
        signal.throwIfAborted()
        const code = error instanceof AgentError ? error.code : undefined
        isQuarantined ||= code === 'hash_mismatch'
        if (twin && (code === 'hash_mismatch' || code === 'file_damaged')) {
          const { message } = error as AgentError
          first.verified.markDamaged(twin.path, message)
          first.report({ type: 'download.damaged', subject: twin.path, data: { message } })
        } else if (code === 'hash_mismatch' && mismatches === 0) {
          mismatches += 1
          // Whose bytes were wrong cannot be told: the second attempt is the chosen source's alone.
          chosen = { ...chosen, partners: [] }
        } else if (code === 'source_changed' && changes === 0) {
          changes += 1
          await discardPart(file.path)
          const source = await resolveSource(chosen.reference, { ...chosen.resolve, signal })
          const { expected } = judgeSource(source, { file, primary: source })
          chosen = { ...chosen, source, expected, partners: [] }
        } else {
          // A page or an error under a model's name is nothing to continue from.
          if (code === 'not_a_model' || code === 'login_required') await discardPart(file.path)
          throw error
        }
        row.countRetry()
      }
    }
  } finally {
    if (isQuarantined) await removeQuarantined(file.path)
  }
}

/** The twin while it is unchanged on disk and has the very hash that is wanted. */
const findTwin = async ({
  twin,
  verified,
  expected,
}: FileContext & Chosen): Promise<VerifiedFile | undefined> => {
  const found = twin === undefined ? undefined : await verified.find(twin)
  return found?.sha256 === expected.sha256 ? found : undefined
}

const removeQuarantined = async (path: string): Promise<void> => {
  const prefix = `${basename(path)}.bad-`
  const names = await readdir(dirname(path)).catch(() => [])
  await Promise.all(
    names
      .filter((name) => name.startsWith(prefix) && /^[0-9a-f]{8}$/.test(name.slice(prefix.length)))
      .map((name) => rm(join(dirname(path), name), { force: true })),
  )
}
