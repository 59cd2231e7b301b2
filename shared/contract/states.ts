/*
 * States of everything that has one, and the moves that are legal.
 *
 *   run:  planning ─→ provisioning ─→ starting ─→ ready | degraded
 *            ↑  └──────────┴─────────────┴──────→ failed | cancelled
 *            └── (agent restarted: the same run plans again)
 *
 * ready, degraded, failed and cancelled are final: the next attempt is another run.
 */
export const RUN_STATES = [
  'planning',
  'provisioning',
  'starting',
  'ready',
  'degraded',
  'failed',
  'cancelled',
] as const
export type RunState = (typeof RUN_STATES)[number]

export const RUN_MOVES: Readonly<Record<RunState, readonly RunState[]>> = {
  planning: ['planning', 'provisioning', 'failed', 'cancelled'],
  provisioning: ['planning', 'starting', 'failed', 'cancelled'],
  starting: ['planning', 'ready', 'degraded', 'failed', 'cancelled'],
  ready: [],
  degraded: [],
  failed: [],
  cancelled: [],
}

export const isFinalRunState = (state: RunState): boolean => RUN_MOVES[state].length === 0

/** `waiting`: paused by itself (disk full, rate limit), goes on by itself. */
export const DOWNLOAD_STATES = [
  'queued',
  'resolving',
  'downloading',
  'verifying',
  'done',
  'waiting',
  'failed',
] as const

/*
 *   waiting (depends_on) → starting → ready → stopping → stopped
 *                             ↓  ↑       ↓
 *                          running     unresponsive
 *
 * `running`: alive, and readiness is not defined for it or not yet proven. `exited`: a job that ended with 0.
 * `lost`: its shim is gone and nothing says how it ended.
 */
export const PROCESS_STATES = [
  'waiting',
  'starting',
  'ready',
  'running',
  'stopping',
  'stopped',
  'exited',
  'failed',
  'crash-looping',
  'unresponsive',
  'lost',
] as const
export type ProcessState = (typeof PROCESS_STATES)[number]

export const UNHEALTHY_PROCESS_STATES: readonly ProcessState[] = [
  'failed',
  'crash-looping',
  'unresponsive',
  'lost',
]

export const SYNC_STATES = ['idle', 'copying', 'retrying', 'failing', 'stopped'] as const
export type SyncState = (typeof SYNC_STATES)[number]

/**
 * Why a unit is not stored yet. `incomplete`: something of it is missing or it is still written; `settling`: it only
 * has to rest a little longer; `refused`: a name in it cannot be kept by remotes.
 */
export const PENDING_STATES = ['copying', 'queued', 'settling', 'incomplete', 'failed', 'refused'] as const

export const BUDGET_STATES = ['ok', 'warning', 'stopping', 'stop-failed', 'stopped'] as const

export const SCOPES = ['read', 'operate', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

/** True when a token of scope `have` may do what needs scope `need`. */
export const scopeAllows = (have: Scope, need: Scope): boolean => SCOPES.indexOf(have) >= SCOPES.indexOf(need)
