/** Every event type, in the order of a run. An event is a fact that happened: it is never changed or removed. */
export const EVENT_TYPES = [
  'agent.started',
  'agent.stopping',
  'agent.state-quarantined',
  'secrets.received',
  'token.created',
  'token.revoked',
  'api.change',
  'run.created',
  'run.state',
  'run.resumed',
  'run.problem',
  'download.started',
  'download.resumed',
  'download.source-failed',
  'download.waiting',
  'download.done',
  'download.failed',
  'download.damaged',
  'python.planned',
  'python.installed',
  'python.rolled-back',
  'python.imports-proven',
  'process.started',
  'process.adopted',
  'process.state',
  'process.exited',
  'sync.started',
  'sync.copied',
  'sync.failed',
  'sync.recovered',
  'sync.flushed',
  'budget.warning',
  'budget.limit-reached',
  'budget.idle',
  'budget.extended',
  'budget.stop-announced',
  'budget.stop-cancelled',
  'budget.stopping',
  'budget.final-sync',
  'budget.stop-failed',
  'budget.stopped',
  'notify.failed',
] as const
export type EventType = (typeof EVENT_TYPES)[number]

/** What a room tells the outside: kept in the journal, streamed to clients. `data` never holds a secret. */
export type AgentEvent = {
  readonly type: EventType
  /** The thing's own name: a destination, a process, a package, a run id. */
  readonly subject: string
  readonly data?: Readonly<Record<string, unknown>>
}

/** The one way outwards from a stage (docs/architecture.md, “two side channels”). Never throws. */
export type Report = (event: AgentEvent) => void
