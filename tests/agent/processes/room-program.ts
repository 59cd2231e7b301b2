import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openDatabase } from '../../../agent/platform/database.ts'
import type { PlannedProcess } from '../../../agent/processes/planned-process.ts'
import { createProcesses } from '../../../agent/processes/processes.ts'

/*
 * An agent that is nothing but its process room, to be killed by a test:
 *   node room-program.ts HOME PLAN.json [SHIM]
 * It prints each event as a line of JSON, and {"type":"settled"} when the plan is applied.
 */
const [home = '', planFile = '', shimFile] = process.argv.slice(2)
const print = (value: unknown): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}
const { db } = openDatabase(join(home, 'state'))
const processes = createProcesses({
  stateFolder: join(home, 'state'),
  runFolder: join(home, 'run'),
  db,
  clock: systemClock,
  report: print,
  log: {
    info: () => undefined,
    warn: () => undefined,
    error: (message, fields) => print({ message, fields }),
  },
  random: () => 0,
  ...(shimFile === undefined ? {} : { shimFile }),
})
const { signal } = new AbortController()
await processes.adopt({ signal })
print({ type: 'adopted', rows: processes.rows() })
const plan = JSON.parse(readFileSync(planFile, 'utf8')) as readonly PlannedProcess[]
if (plan.length > 0) print({ type: 'settled', outcomes: await processes.apply(plan, { signal }) })
await Promise.all(processes.services.map((service) => service.run(signal)))
