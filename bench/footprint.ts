/*
 * What the agent and its client cost at rest: `npm run build && npm run bench`.
 *
 *   agentctl status   wall time of the whole program over the unix socket, median of 15, beside an empty node program
 *   agentd idle       resident memory and CPU over ten seconds with nothing to do
 */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { makeHome, removeHome, runProgram, startAgent } from '../tests/support/agent-process.ts'
import { median, timeMs } from './measure.ts'

const ROUNDS = 15
const IDLE_MS = 10_000
const PAGE_BYTES = 4096
const TICKS_PER_SECOND = 100

const statm = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES

const cpuSeconds = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

const home = makeHome()
const agent = await startAgent({ home, programs: 'built' })
try {
  const pid = agent.child.pid ?? 0
  const empty: number[] = []
  const status: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    empty.push(await timeMs(() => runProgram([process.execPath, '-e', '0'])))
    status.push(await timeMs(() => agent.agentctl(['status'])))
  }
  await delay(IDLE_MS)
  const before = cpuSeconds(pid)
  await delay(IDLE_MS)
  const cpuPercent = ((cpuSeconds(pid) - before) / (IDLE_MS / 1000)) * 100
  console.log(`agentctl status   ${median(status).toFixed(0)} ms (median of ${ROUNDS}; limit 150 ms)`)
  console.log(
    `an empty node     ${median(empty).toFixed(0)} ms; ratio ${(median(status) / median(empty)).toFixed(1)}`,
  )
  console.log(
    `agentd idle       ${(statm(pid) / 1e6).toFixed(0)} MB resident (limit 100 MB), ${cpuPercent.toFixed(1)} % of a core`,
  )
} finally {
  await agent.kill('SIGTERM')
  await removeHome(home)
}
