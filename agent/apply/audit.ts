import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { AuditRecord } from '../../shared/contract/audit-record.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { auditBox } from '../audit/audit.ts'
import type { AuditContext } from '../audit/audit.ts'
import type { Secrets } from '../platform/secrets.ts'
import type { GuardedPython } from './guarded-python.ts'
import { readManifest } from './read-manifest.ts'
import type { Runs } from './runs.ts'

type AuditDeps = Pick<AuditContext, 'clock' | 'version' | 'stateFolder' | 'homeFolder' | 'host'> & {
  readonly runs: Pick<Runs, 'manifest'>
  readonly secrets: Secrets
  readonly python: Pick<GuardedPython, 'check'>
  /** Files that hold secrets by design wherever the manifest stands. */
  readonly secretFiles: readonly string[]
  readonly agentProblems: () => readonly Problem[]
  readonly clockSkew: (context: { readonly signal: AbortSignal }) => Promise<number | null>
}

/** The audit of the box as its manifest describes it; those who ask at the same time get the same answer. */
export const createAudit = (deps: AuditDeps) => {
  let running: Promise<AuditRecord> | undefined
  return {
    /** @throws the signal's reason after an abort */
    audit: (context: { readonly signal: AbortSignal }): Promise<AuditRecord> =>
      (running ??= audit(deps, context).finally(() => (running = undefined))),
  }
}

const audit = (deps: AuditDeps, { signal }: { readonly signal: AbortSignal }): Promise<AuditRecord> => {
  const stored = deps.runs.manifest()
  const manifest = stored && readManifest({ manifest: stored.text, file: stored.file }, deps.secrets).manifest
  return auditBox({
    clock: deps.clock,
    version: deps.version,
    signal,
    stateFolder: deps.stateFolder,
    homeFolder: deps.homeFolder,
    secrets: [
      ...deps.secrets.known(),
      { name: 'local token', value: readFileSync(join(deps.stateFolder, 'local-token'), 'utf8').trim() },
    ],
    redact: deps.secrets.redact,
    secretFiles: [...deps.secretFiles, ...(manifest?.secrets.files ?? [])],
    folders: manifest === undefined ? [] : foldersOf(manifest),
    dataFolders: manifest === undefined ? [] : dataFoldersOf(manifest),
    agentProblems: deps.agentProblems(),
    host: deps.host,
    clockSkew: () => deps.clockSkew({ signal }),
    python: async () => {
      if (manifest?.python === undefined) return null
      const check = await deps.python.check({ signal })
      return {
        summary: `${check.version}, ${check.packages} packages, ${check.sharedObjects} shared objects`,
        problems: check.problems,
        fingerprint: check.fingerprint,
      }
    },
  })
}

/** Where people and programs of this manifest keep sources, settings and workflows. */
const foldersOf = (manifest: Manifest): readonly string[] => [
  ...new Set(
    Object.values(manifest.processes).flatMap((process) => [
      ...(process.working_dir === undefined ? [] : [process.working_dir]),
      ...('workflows' in process ? process.workflows.map((path) => dirname(path)) : []),
    ]),
  ),
]

const dataFoldersOf = (manifest: Manifest): readonly string[] => [
  ...(manifest.models_root === undefined ? [] : [manifest.models_root]),
  ...(manifest.hf_home === undefined ? [] : [manifest.hf_home]),
  ...manifest.sync.map(({ path }) => path),
]
