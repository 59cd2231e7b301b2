import type { Problem } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { CustomNode } from '../../shared/manifest/schema.ts'
import type { Clock } from '../platform/clock.ts'
import type { Log } from '../platform/log.ts'
import type { Secrets } from '../platform/secrets.ts'
import type { Budget } from '../budget/budget.ts'
import type { Downloads } from '../downloads/downloads.ts'
import type { Notify } from '../notify/notify.ts'
import type { Probes } from '../preflight/gather-facts.ts'
import type { Processes } from '../processes/processes.ts'
import type { PythonPlan, PythonRequest } from '../python/plan-python.ts'
import type { PythonReady } from '../python/prepare-python.ts'
import type { OverlayDist } from '../python/unwanted-dists.ts'
import type { PlannedSync } from '../sync/planned-sync.ts'
import type { Sync } from '../sync/sync.ts'

type Waiting = { readonly signal: AbortSignal }

/** Everything the main path works with. compose.ts builds it; nothing here is constructed by a stage. */
export type Rooms = {
  readonly clock: Clock
  readonly log: Log
  readonly report: Report
  readonly secrets: Secrets
  readonly probes: Probes
  /** Where the agent keeps its state: the disk that overlays grow on. */
  readonly homePath: string
  readonly downloads: Downloads
  readonly python: {
    plan(request: PythonRequest, context: Waiting): Promise<PythonPlan>
    prepare(plan: PythonPlan, context: Waiting): Promise<PythonReady>
    /** Clones or updates the custom nodes under `folder`; what failed comes back, the rest goes on. */
    cloneNodes(
      nodes: readonly CustomNode[],
      context: Waiting & { readonly folder: string },
    ): Promise<readonly Problem[]>
    /** What lies in every overlay, for a manifest that wants no Python. */
    packages(): Promise<readonly OverlayDist[]>
    /** Runs the install.py of those nodes that have one; what failed comes back, the rest goes on. */
    runScripts(
      nodes: readonly CustomNode[],
      context: Waiting & { readonly plan: PythonPlan; readonly nodesFolder: string },
    ): Promise<readonly Problem[]>
  }
  readonly processes: Processes
  readonly sync: Sync
  readonly budget: Pick<Budget, 'configure' | 'check'>
  readonly notify: Pick<Notify, 'configure' | 'check'>
  readonly checkRemote: (planned: PlannedSync, context: Waiting) => Promise<Problem | null>
}
