import { z } from 'zod'
import type { Database } from '../platform/database.ts'
import { ProcessRecord } from './process-record.ts'

/** The table of processes: one record a name, in the order in which they came. */
export const createProcessStore = (db: Database) => {
  const insert = db.prepare(`
    INSERT INTO processes
    VALUES (@name, @kind, @digest, @desired, @state, @jobId, @pid, @restarts, @startedAt, @exitCode, @signal, @url,
            @problem, @finishedDigest)
    ON CONFLICT (name) DO UPDATE SET
      kind = excluded.kind, digest = excluded.digest, desired = excluded.desired, state = excluded.state,
      job_id = excluded.job_id, pid = excluded.pid, restarts = excluded.restarts, started_at = excluded.started_at,
      exit_code = excluded.exit_code, signal = excluded.signal, url = excluded.url, problem = excluded.problem,
      finished_digest = excluded.finished_digest`)
  const selectAll = db.prepare(`
    SELECT name, kind, digest, desired, state, job_id AS jobId, pid, restarts, started_at AS startedAt,
           exit_code AS exitCode, signal, url, problem, finished_digest AS finishedDigest
    FROM processes ORDER BY rowid`)
  const remove = db.prepare('DELETE FROM processes WHERE name = ?')
  return {
    all: (): readonly ProcessRecord[] =>
      selectAll.all().map((row) => {
        const { problem, ...columns } = StoredRow.parse(row)
        return ProcessRecord.parse({
          ...columns,
          problem: problem === null ? null : (JSON.parse(problem) as unknown),
        })
      }),
    save: (record: ProcessRecord): void => {
      insert.run({ ...record, problem: record.problem && JSON.stringify(record.problem) })
    },
    remove: (name: string): void => {
      remove.run(name)
    },
  }
}
export type ProcessStore = ReturnType<typeof createProcessStore>

const StoredRow = z.looseObject({ problem: z.string().nullable() })
