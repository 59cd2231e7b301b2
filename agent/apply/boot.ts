import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Log } from '../platform/log.ts'
import { errorText } from '../platform/files.ts'
import type { Apply, ManifestText } from './apply.ts'
import type { Runs } from './runs.ts'

/** Where an image keeps the manifest it was baked with. */
const IMAGE_MANIFEST = '/etc/gpu-agent/manifest.yaml'

/**
 * At boot: the manifest given on the command line when this box has not seen it yet, else the last one, else the
 * image's. Failures are in the run's record and the log; they never stop the agent.
 */
export const applyBootManifest = async (
  given: string | null,
  context: {
    readonly apply: Apply
    readonly runs: Runs
    readonly fetchText: (url: string) => Promise<string>
    readonly log: Log
  },
): Promise<void> => {
  const { apply, runs, log } = context
  try {
    const wanted =
      given ?? (runs.manifest() === undefined && existsSync(IMAGE_MANIFEST) ? IMAGE_MANIFEST : null)
    const text = wanted === null ? undefined : await readText(wanted, context.fetchText)
    // A manifest that was applied later by hand must not be undone by every reboot.
    if (text !== undefined && !runs.knows(digestOf(text.manifest))) await apply.start(text)
    else await apply.resume()
  } catch (error) {
    log.error('the manifest could not be applied at boot', { manifest: given, error: errorText(error) })
    for (const problem of error instanceof AgentError ? (error.problems ?? []) : [])
      log.error(problem.message, { code: problem.code, subject: problem.subject, hint: problem.hint })
  }
}

const readText = async (
  wanted: string,
  fetchText: (url: string) => Promise<string>,
): Promise<ManifestText> =>
  /^https?:\/\//.test(wanted)
    ? { manifest: await fetchText(wanted), file: basename(new URL(wanted).pathname) || 'manifest.yaml' }
    : { manifest: await readFile(wanted, 'utf8'), file: wanted }

const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex')
