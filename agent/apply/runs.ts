import { z } from 'zod'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import { Problem as ProblemSchema, Progress } from '../../shared/contract/records.ts'
import type { RunRecord } from '../../shared/contract/records.ts'
import { isFinalRunState, RUN_MOVES, RUN_STATES } from '../../shared/contract/states.ts'
import type { RunState } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'

export type StoredManifest = {
  readonly digest: string
  readonly name: string
  readonly text: string
  /** The name of the file it came from, for messages. */
  readonly file: string
  /** Subjects that its run was told to do without. */
  readonly allowMissing: readonly string[]
  readonly appliedAt: string
}

/** The record of every attempt. A run that was refused at plan time changed nothing and never becomes “the” run. */
export type Runs = {
  readonly create: (
    manifest: Omit<StoredManifest, 'appliedAt' | 'allowMissing'> &
      Partial<Pick<StoredManifest, 'allowMissing'>>,
  ) => RunRecord
  readonly get: (id: string) => RunRecord | undefined
  readonly list: (limit: number) => readonly RunRecord[]
  /** The run the box stands for: the newest that was not refused, else the newest. */
  readonly current: () => RunRecord | undefined
  /** The manifest the box was last brought to, or is being brought to. */
  readonly manifest: () => StoredManifest | undefined
  /** True when this manifest was applied, or tried, on this box before. */
  readonly knows: (digest: string) => boolean
  /** @throws AgentError internal when the move is not in RUN_MOVES */
  readonly move: (
    id: string,
    state: RunState,
    change?: { problems?: readonly Problem[]; refused?: boolean },
  ) => RunRecord
  readonly setProgress: (id: string, progress: Progress) => void
}

type Row = {
  id: string
  digest: string
  name: string
  state: string
  started_at: string
  ended_at: string | null
  problems: string
  progress: string
  allow_missing: string
}

type ManifestRow = { digest: string; name: string; text: string; file: string; applied_at: string }

const NO_PROGRESS: Progress = { bytesDone: 0, bytesTotal: null, bytesPerSecond: 0, etaSeconds: null }

export const createRuns = (deps: {
  readonly db: Database
  readonly clock: Clock
  readonly newId: () => string
  readonly report: Report
}): Runs => {
  const { db, clock } = deps
  const columns = 'SELECT runs.*, manifests.name FROM runs JOIN manifests USING (digest)'
  const byId = db.prepare<[string], Row>(`${columns} WHERE id = ?`)
  const newest = db.prepare<[number], Row>(`${columns} ORDER BY started_at DESC, runs.rowid DESC LIMIT ?`)
  const standing = db.prepare<[], Row>(
    `${columns} WHERE refused = 0 ORDER BY started_at DESC, runs.rowid DESC LIMIT 1`,
  )
  const manifestOf = db.prepare<[string], ManifestRow>('SELECT * FROM manifests WHERE digest = ?')

  const allowedOf = db.prepare<[string], Pick<Row, 'allow_missing'>>(
    'SELECT allow_missing FROM runs WHERE id = ?',
  )

  const required = (id: string): RunRecord => {
    const row = byId.get(id)
    if (row === undefined) throw new AgentError('not_found', `there is no run ${id}`)
    return toRecord(row)
  }
  const current = (): RunRecord | undefined => {
    const row = standing.get() ?? newest.get(1)
    return row && toRecord(row)
  }

  return {
    create: (manifest) => {
      const id = deps.newId()
      const now = clock.now().toISOString()
      db.transaction(() => {
        db.prepare(
          `INSERT INTO manifests (digest, name, text, file, applied_at) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (digest) DO UPDATE SET applied_at = excluded.applied_at, file = excluded.file`,
        ).run(manifest.digest, manifest.name, manifest.text, manifest.file, now)
        db.prepare(
          'INSERT INTO runs (id, digest, state, started_at, progress, allow_missing) VALUES (?, ?, ?, ?, ?, ?)',
        ).run(
          id,
          manifest.digest,
          'planning',
          now,
          JSON.stringify(NO_PROGRESS),
          JSON.stringify(manifest.allowMissing ?? []),
        )
      }).immediate()
      deps.report({
        type: 'run.created',
        subject: id,
        data: { manifest: manifest.name, digest: manifest.digest },
      })
      return required(id)
    },
    get: (id) => {
      const row = byId.get(id)
      return row && toRecord(row)
    },
    list: (limit) => newest.all(limit).map(toRecord),
    current,
    manifest: () => {
      const run = current()
      const row = run && manifestOf.get(run.manifest.digest)
      if (run === undefined || row === undefined) return undefined
      const { applied_at: appliedAt, ...manifest } = row
      const allowed = allowedOf.get(run.id)?.allow_missing ?? '[]'
      return { ...manifest, appliedAt, allowMissing: z.array(z.string()).parse(JSON.parse(allowed)) }
    },
    knows: (digest) => manifestOf.get(digest) !== undefined,
    move: (id, state, change = {}) => {
      const run = required(id)
      if (!RUN_MOVES[run.state].includes(state))
        throw new AgentError('internal', `run ${id} cannot go from ${run.state} to ${state}`)
      const problems = change.problems ?? run.problems
      db.prepare('UPDATE runs SET state = ?, ended_at = ?, problems = ?, refused = ? WHERE id = ?').run(
        state,
        isFinalRunState(state) ? clock.now().toISOString() : null,
        JSON.stringify(problems),
        change.refused === true ? 1 : 0,
        id,
      )
      const data = { from: run.state, to: state, problems }
      deps.report({ type: 'run.state', subject: id, data })
      return required(id)
    },
    setProgress: (id, progress) => {
      db.prepare('UPDATE runs SET progress = ? WHERE id = ?').run(JSON.stringify(progress), id)
    },
  }
}

const toRecord = (row: Row): RunRecord => ({
  id: row.id,
  manifest: { name: row.name, digest: row.digest },
  state: z.enum(RUN_STATES).parse(row.state),
  startedAt: row.started_at,
  endedAt: row.ended_at,
  problems: z.array(ProblemSchema).parse(JSON.parse(row.problems)),
  progress: Progress.parse(JSON.parse(row.progress)),
})
