import { openDatabase } from '../../../../agent/platform/database.ts'
import { systemClock } from '../../../../agent/platform/clock.ts'
import { createLog } from '../../../../agent/platform/log.ts'
import type { PlannedSync } from '../../../../agent/sync/planned-sync.ts'
import { createSync } from '../../../../agent/sync/sync.ts'

/*
 * The sync room alone as a program, so that it can be killed: `node sync-agent.ts HOME TEMPORARY PLAN`. Prints its
 * rows as JSON lines, five a second.
 */
const [home = '', temporaryFolder = '', plan = ''] = process.argv.slice(2)
const sync = createSync({
  db: openDatabase(home).db,
  clock: systemClock,
  report: () => undefined,
  log: createLog(
    (line) => process.stderr.write(`${line}\n`),
    (text) => text,
    () => new Date(),
  ),
  searchPath: process.env['PATH'] ?? '',
  environment: process.env,
  temporaryFolder,
})
sync.configure([JSON.parse(plan) as PlannedSync])
const print = (): void => void process.stdout.write(`${JSON.stringify(sync.rows()[0])}\n`)
setInterval(print, 200)
await sync.service.run(new AbortController().signal)
