import { randomBytes } from 'node:crypto'
import type { HostRecord } from '../shared/contract/records.ts'
import type { Problem } from '../shared/contract/errors.ts'
import { resolveAhead } from '../shared/sources/resolve-source.ts'
import type { ResolveDeps } from '../shared/sources/resolved-source.ts'
import { VERSION } from '../shared/version.ts'
import type { Apply } from './apply/apply.ts'
import type { GuardedPython } from './apply/guarded-python.ts'
import type { Journal } from './apply/journal.ts'
import { modelsRootOf, pullModel } from './apply/pull-model.ts'
import type { Runs } from './apply/runs.ts'
import { makeStatus, withProgress } from './apply/status.ts'
import type { Budget } from './budget/budget.ts'
import type { OpenWork } from './budget/open-work.ts'
import type { AgentConfig } from './config.ts'
import type { Downloads } from './downloads/downloads.ts'
import type { Box } from './http/box.ts'
import type { Tokens } from './http/tokens.ts'
import type { SecretFile } from './platform/secret-file.ts'
import type { Secrets } from './platform/secrets.ts'
import { planOneOff } from './processes/planned-process.ts'
import { isOneOff, ONE_OFF_PREFIX } from './processes/one-offs.ts'
import type { Processes } from './processes/processes.ts'
import { createOutputStripper } from './processes/strip-output.ts'
import type { Sync } from './sync/sync.ts'

type BoxDeps = {
  readonly config: AgentConfig
  readonly agentId: string
  /** When this agent began. */
  readonly startedAt: string
  readonly readHost: () => Promise<HostRecord>
  /** What is wrong with the agent itself, now. */
  readonly problems: () => readonly Problem[]
  /** Resolves when it is known what still runs: before that nothing may be started. */
  readonly adopted: Promise<unknown>
  readonly apply: Apply
  readonly runs: Runs
  readonly journal: Journal
  readonly tokens: Tokens
  readonly tls: Box['tls']
  readonly secrets: Secrets
  readonly secretFile: SecretFile
  readonly downloads: Downloads
  readonly resolve: ResolveDeps
  readonly processes: Processes
  readonly python: GuardedPython
  readonly audit: Box['audit']
  readonly sync: Sync
  readonly budget: Budget
  readonly openWork: OpenWork
  readonly shutdown: AbortSignal
}

/** What the API may do to the box: the built parts behind the few calls that its routes make. */
export const makeBox = (deps: BoxDeps): Box => {
  const { adopted, apply, runs, secrets, secretFile, downloads, processes, python, sync, budget, openWork } =
    deps
  const { journal, tokens, audit, shutdown } = deps
  const currentRun = () => {
    const run = runs.current()
    return run && withProgress(run, downloads.progress())
  }
  return {
    version: VERSION,
    status: async () =>
      makeStatus({
        agent: {
          id: deps.agentId,
          version: VERSION,
          pid: process.pid,
          startedAt: deps.startedAt,
          home: deps.config.home ?? deps.config.stateFolder,
        },
        host: await deps.readHost(),
        manifest: runs.manifest(),
        run: currentRun(),
        downloads: downloads.rows(),
        processes: processes.rows().filter(({ name }) => !isOneOff(name)),
        sync: sync.rows(),
        budget: budget.row(),
        isLate: sync.isLate,
        problems: deps.problems(),
      }),
    plan: (text, signal) => apply.plan(text, { signal }),
    apply: async (text) => {
      await adopted
      return apply.start(text)
    },
    cancel: apply.cancel,
    currentRun,
    runs,
    journal,
    tokens,
    tls: deps.tls,
    secrets: {
      ...secretFile,
      set: (name, value) => {
        secrets.declare([name])
        secretFile.set(name, value)
      },
    },
    downloads,
    models: {
      list: downloads.models,
      verify: ({ signal }) => downloads.verify({ signal: AbortSignal.any([signal, shutdown]) }),
      pull: (request, { signal }) =>
        pullModel(request, {
          downloads,
          resolve: (reference, asked) => resolveAhead(reference, { ...deps.resolve, signal: asked }),
          modelsRoot: modelsRootOf(runs.manifest(), secrets),
          signal: AbortSignal.any([signal, shutdown]),
        }),
    },
    processes: {
      ...processes,
      createStripper: createOutputStripper,
      runOnce: async (oneOff, { signal }) => {
        await adopted
        const name = `${ONE_OFF_PREFIX}${randomBytes(3).toString('hex')}`
        return processes.runOnce(planOneOff(name, { ...oneOff, searchPath: deps.config.searchPath }), {
          signal,
        })
      },
    },
    python: {
      ...python,
      install: (specs, waiting) =>
        openWork.during('an install of packages', () => python.install(specs, waiting)),
    },
    audit,
    sync,
    budget,
    openWork,
  }
}
