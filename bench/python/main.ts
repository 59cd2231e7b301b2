/*
 * What the guard costs: `node bench/python/main.ts [ENVIRONMENT]`, in a few minutes, with each goal and PASS or MISS.
 *
 *   shared objects   time and memory of a check of every object of an environment, in a process of its own; without an
 *                    environment one is made of copies of this machine’s libraries and modules, at least 300
 *   plan             a plan that finds nothing wrong, beside a bare `pip install --dry-run` of the same; and where uv is
 *   install          a package of 4000 files with every proof, beside a plain `pip install` of the same
 *   rollback         of an install into an overlay of 700 MB and 15,000 files
 */
import { median } from '../measure.ts'
import { systemPython } from '../../tests/support/wheels/python-world.ts'
import { measureInstalls, measurePlans, measureRollback } from './installs.ts'
import { checkMadeObjects, checkObjectsOf } from './objects.ts'

const ROUNDS = 5

const system = systemPython()
if (system.missing !== undefined) throw new Error(system.missing)

const say = (what: string, measured: string, goal: string, isMet: boolean): void => {
  console.log(`${what.padEnd(16)} ${measured}; goal ${goal}: ${isMet ? 'PASS' : 'MISS'}`)
  if (!isMet) process.exitCode = 1
}

const startedMs = performance.now()
const [given] = process.argv.slice(2)
const checks = given === undefined ? checkMadeObjects(system.path, ROUNDS) : checkObjectsOf(given, ROUNDS)
const checkMs = median(checks.map(({ ms }) => ms))
const megabytes = median(checks.map(({ megabytes: one }) => one))
say(
  'shared objects',
  `${checks[0]?.objects ?? 0} in ${checkMs.toFixed(0)} ms, ${megabytes.toFixed(0)} MB resident`,
  'at least 300 in 1000 ms and 150 MB',
  (checks[0]?.objects ?? 0) >= 300 && checkMs <= 1000 && megabytes <= 150,
)

const plans = await measurePlans(ROUNDS)
say(
  'plan',
  `${plans.pipMs.toFixed(0)} ms; bare pip ${plans.bareMs.toFixed(0)} ms; ratio ${(plans.pipMs / plans.bareMs).toFixed(2)}`,
  'a ratio of 1.5',
  plans.pipMs <= 1.5 * plans.bareMs,
)
if (plans.uvMs !== null) console.log(`${''.padEnd(16)} ${plans.uvMs.toFixed(0)} ms where uv is installed`)

const installs = await measureInstalls(4)
say(
  'install',
  `${installs.guardedMs.toFixed(0)} ms; plain pip ${installs.plainMs.toFixed(0)} ms`,
  '1.3 times plain pip and 5 s',
  installs.guardedMs <= 1.3 * installs.plainMs + 5000,
)

const rollbackMs = await measureRollback(3)
say('rollback', `${rollbackMs.toFixed(0)} ms for 700 MB`, '3000 ms', rollbackMs <= 3000)
console.log(`medians; the whole bench took ${((performance.now() - startedMs) / 1000).toFixed(0)} s`)
