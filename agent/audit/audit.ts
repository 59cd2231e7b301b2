import { readdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { AuditCheck, AuditRecord } from '../../shared/contract/audit-record.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { HostRecord } from '../../shared/contract/records.ts'
import { formatSize } from '../../shared/contract/units.ts'
import { CLOCK_TOLERANCE_MS } from '../../shared/preflight/watch-clock.ts'
import type { Clock } from '../platform/clock.ts'
import { checkListeners } from './check-listeners.ts'
import { checkModes } from './check-modes.ts'
import { findExposedSecrets } from './find-exposed-secrets.ts'
import { readListeners } from './read-listeners.ts'
import type { KnownSecret } from './scan-text.ts'

/** What the audit needs to know of the box; each call is read-only. */
export type AuditContext = {
  readonly clock: Clock
  readonly version: string
  readonly signal: AbortSignal
  readonly stateFolder: string
  readonly secrets: readonly KnownSecret[]
  readonly redact: (text: string) => string
  /** The agent's own secrets files, and those that the manifest declares. */
  readonly secretFiles: readonly string[]
  /** The HOME of the agent's account, beside the usual ones. */
  readonly homeFolder: string | undefined
  /** Folders of the manifest: where its processes work, its custom nodes, its workflows. */
  readonly folders: readonly string[]
  /** Folders with models and data. */
  readonly dataFolders: readonly string[]
  /** What is wrong with the agent itself. */
  readonly agentProblems: readonly Problem[]
  host(): Promise<HostRecord>
  /** Milliseconds that this clock is ahead; null when no hub answered. */
  clockSkew(): Promise<number | null>
  /** The manifest's Python; null without one. */
  python(): Promise<{
    readonly summary: string
    readonly problems: readonly Problem[]
    readonly fingerprint: string
  } | null>
}

type Part = {
  readonly name: AuditCheck['name']
  readonly summary: string
  readonly problems: readonly Problem[]
}

/**
 * Looks the box over and changes nothing: no event, no write, no access token used up. Every part is looked at whatever
 * another one finds; what cannot be looked at is `unknown`, never ok.
 */
export const auditBox = async (context: AuditContext): Promise<AuditRecord> => {
  const at = context.clock.now().toISOString()
  const listeners = await readListeners()
  const python = await context.python().catch((error: unknown) => {
    context.signal.throwIfAborted()
    return { summary: 'it cannot be looked at', problems: [problemFrom(error, 'python')], fingerprint: null }
  })
  const parts: readonly (Part | { readonly name: AuditCheck['name']; readonly unknown: string })[] = [
    {
      name: 'listeners',
      summary: `${listeners.length} in all, ${listeners.filter((one) => one.public).length} public`,
      problems: await checkListeners(listeners),
    },
    await searchSecrets(context),
    {
      name: 'file modes',
      summary: 'state, tokens and secrets are for their owner alone',
      problems: await checkModes([
        context.stateFolder,
        join(context.stateFolder, 'local-token'),
        ...context.secretFiles,
      ]),
    },
    gpuPart(await context.host()),
    python === null
      ? { name: 'python', unknown: 'no manifest with python was applied' }
      : { name: 'python', summary: python.summary, problems: python.problems },
    await diskPart([...new Set(['/', context.stateFolder, ...context.dataFolders])]),
    clockPart(await context.clockSkew()),
    { name: 'agent', summary: `agentd ${context.version}`, problems: context.agentProblems },
  ]
  return {
    at,
    checks: parts.map(toCheck),
    problems: parts.flatMap((part) => ('problems' in part ? part.problems : [])),
    listeners: [...listeners],
    environmentFingerprint: python?.fingerprint ?? null,
  }
}

const toCheck = (
  part: Part | { readonly name: AuditCheck['name']; readonly unknown: string },
): AuditCheck => {
  if ('unknown' in part) return { name: part.name, state: 'unknown', summary: part.unknown }
  const errors = part.problems.filter(({ severity }) => severity === 'error').length
  const warnings = part.problems.length - errors
  const state = errors > 0 ? 'error' : warnings > 0 ? 'warning' : 'ok'
  return { name: part.name, state, summary: part.summary }
}

const searchSecrets = async (context: AuditContext): Promise<Part> => {
  const found = await findExposedSecrets(
    {
      secrets: context.secrets,
      places: [
        ...context.folders,
        join(context.stateFolder, 'jobs'),
        '/var/log',
        '/etc/environment',
        '/etc/gpu-agent',
        ...(await savedByPrograms(context.homeFolder)),
      ],
      allowed: new Set([...context.secretFiles, join(context.stateFolder, 'local-token')]),
      skipped: new Set(context.dataFolders),
      redact: context.redact,
    },
    context.signal,
  )
  const searched = `${context.secrets.length} known secrets looked for in ${found.files} files`
  return {
    name: 'secrets',
    summary: found.cut ? `${searched}; there are more files than are searched` : searched,
    problems: found.problems,
  }
}

/** Where shells, Python and clients of hubs keep what was typed and saved. */
const SAVED_BY_PROGRAMS = [
  '.bash_history',
  '.zsh_history',
  '.python_history',
  '.local/share/fish/fish_history',
  '.bashrc',
  '.profile',
  '.netrc',
  '.git-credentials',
  '.config/rclone/rclone.conf',
  '.cache/huggingface/token',
  '.huggingface/token',
]

const savedByPrograms = async (own: string | undefined): Promise<readonly string[]> => {
  const others = await readdir('/home').catch(() => [] as string[])
  const homes = new Set(['/root', ...others.map((name) => join('/home', name)), ...(own ? [own] : [])])
  return [...homes].flatMap((home) => SAVED_BY_PROGRAMS.map((file) => join(home, file)))
}

const gpuPart = ({ gpus }: HostRecord) =>
  gpus === null || gpus.length === 0
    ? { name: 'gpu' as const, unknown: 'nvidia-smi is not there or does not answer' }
    : {
        name: 'gpu' as const,
        summary: gpus.map(({ name, driver }) => `${name}, driver ${driver}`).join('; '),
        problems: [],
      }

const LEAST_FREE_BYTES = 2 * 2 ** 30

const diskPart = async (paths: readonly string[]): Promise<Part> => {
  const problems: Problem[] = []
  const seen = new Set<string>()
  for (const path of paths) {
    const stats = await statfs(path).catch(() => undefined)
    const key = `${stats?.type} ${stats?.blocks} ${stats?.bfree}`
    if (stats === undefined || seen.has(key)) continue
    seen.add(key)
    const free = stats.bavail * stats.bsize
    if (free >= LEAST_FREE_BYTES) continue
    const error = new AgentError('disk_full', `${formatSize(free)} are free on the disk of ${path}`)
    problems.push(problemFrom(error, path, 'warning'))
  }
  return { name: 'disk', summary: `${seen.size} looked at`, problems }
}

const clockPart = (skewMs: number | null): Part | { readonly name: 'clock'; readonly unknown: string } => {
  if (skewMs === null) return { name: 'clock', unknown: 'no hub answered to compare it with' }
  const seconds = Math.round(Math.abs(skewMs) / 1000)
  const summary =
    Math.abs(skewMs) < CLOCK_TOLERANCE_MS
      ? 'right to a few minutes'
      : `${seconds} s ${skewMs > 0 ? 'ahead' : 'behind'}`
  const error = new AgentError('clock_skewed', `the clock of the box is ${summary}`)
  const problems = Math.abs(skewMs) < CLOCK_TOLERANCE_MS ? [] : [problemFrom(error, 'clock')]
  return { name: 'clock', summary, problems }
}
