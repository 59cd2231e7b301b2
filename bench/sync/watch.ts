import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { printGoal } from './goals.ts'
import { mustDo, usageOf, withAgent, writeMany } from './world.ts'
import { writeFileSync } from 'node:fs'

const WATCHED = 100_000
/** More than one full comparison, which is every 2 min. */
const REST_MS = 125_000

/** Memory and CPU of an agent that watches very many files and has nothing to do. */
export const measureWatch = async (folder: string): Promise<void> => {
  const watched = join(folder, 'watched')
  writeMany(watched, WATCHED)
  await withAgent('', async (agent) => {
    const { pid } = agent.child
    const before = usageOf(pid)
    const manifest = join(agent.home, 'watched.yaml')
    const sync = `{name: s, path: ${watched}, to: ${join(folder, 'never')}, every: 2m, settle: 4h}`
    writeFileSync(manifest, `version: 1\nname: watched\nsync:\n  - ${sync}\n`)
    await mustDo(agent, ['apply', manifest])
    while (!(await agent.agentctl(['sync'])).stdout.includes(`${WATCHED} files`)) await delay(1_000)
    await delay(20_000)
    const rested = usageOf(pid)
    await delay(REST_MS)
    const after = usageOf(pid)
    printGoal({
      what: `${WATCHED} watched files cost`,
      value: after.rssMb - before.rssMb,
      unit: 'MB',
      atMost: 150,
      note: `${after.rssMb.toFixed(0)} MB in all, ${before.rssMb.toFixed(0)} MB before`,
    })
    printGoal({
      what: `and at rest`,
      value: (100 * (after.cpuSeconds - rested.cpuSeconds)) / (REST_MS / 1000),
      unit: '% of a core',
      atMost: 1,
      note: `over ${REST_MS / 1000} s, with a full comparison every 2 min`,
    })
  })
}
