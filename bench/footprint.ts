/*
 * What the agent and its client cost at rest: `npm run bench`.
 *
 *   agentctl status   wall time of the whole program over the unix socket, median of 15, beside an empty node program
 *   over ssh          the same through an sshd on loopback: warm with a connection that is open, cold without one
 *   over TLS          the same through a port with a pinned certificate
 *   pull over ssh     a checkpoint of 1 GB brought here and verified
 *   agentd idle       resident memory and CPU over ten seconds with nothing to do
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { makeHome, removeHome, runProgram, startAgent } from '../tests/support/agent-process.ts'
import type { Ended } from '../tests/support/agent-process.ts'
import { makeCheckpoint } from '../tests/support/checkpoint.ts'
import { freePort } from '../tests/support/comfyui/stand-in.ts'
import { noSshServer, startSshServer } from '../tests/support/ssh-server.ts'
import { median, timeMs } from './measure.ts'

const ROUNDS = 15
const IDLE_MS = 10_000
const PAGE_BYTES = 4096
const TICKS_PER_SECOND = 100
const PULL_BYTES = 1e9

const statm = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES

const cpuSeconds = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** One line for a median with its limit. */
const tell = (what: string, values: readonly number[], limitMs: number): void => {
  const ms = median(values)
  const verdict = ms <= limitMs ? 'PASS' : 'MISS'
  console.log(
    `${what.padEnd(18)}${ms.toFixed(0)} ms (median of ${values.length}; limit ${limitMs} ms) ${verdict}`,
  )
}

const home = makeHome()
const port = await freePort()
const agent = await startAgent({
  home,
  args: ['--listen', `tls://127.0.0.1:${port}`],
})
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
  tell('agentctl status', status, 150)
  console.log(
    `an empty node     ${median(empty).toFixed(0)} ms; ratio ${(median(status) / median(empty)).toFixed(1)}`,
  )
  const megabytes = statm(pid) / 1e6
  const verdict = megabytes <= 90 && cpuPercent <= 0.5 ? 'PASS' : 'MISS'
  console.log(
    `agentd idle       ${megabytes.toFixed(0)} MB resident, ${cpuPercent.toFixed(1)} % of a core (limits 90 MB, 0.5 %) ${verdict}`,
  )
  await measureTls()
  if (noSshServer === undefined) await measureSsh()
  else console.log(`over ssh          not measured: ${noSshServer}`)
} finally {
  await agent.kill('SIGTERM')
  await removeHome(home)
}

function agentctl(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Ended> {
  return runProgram([process.execPath, join(import.meta.dirname, '../dist/agentctl.js'), ...args], { env })
}

async function measureTls(): Promise<void> {
  const made = await agent.agentctl(['token', 'create', 'bench', '--json'])
  const { token, tls } = JSON.parse(made.stdout) as { token: { token: string }; tls: { spkiPin: string } }
  const env = {
    HOME: home,
    AGENTCTL_HOST: `https://127.0.0.1:${port}`,
    AGENTCTL_TOKEN: token.token,
    AGENTCTL_PIN: tls.spkiPin,
  }
  const values: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) values.push(await timeMs(() => agentctl(['status'], env)))
  tell('status over TLS', values, 150)
}

async function measureSsh(): Promise<void> {
  const server = await startSshServer()
  try {
    const { env } = server
    const agentd = join(server.folder, 'bin/agentd')
    const program = join(import.meta.dirname, '../dist/agentd.js')
    writeFileSync(agentd, `#!/bin/sh\nexec ${process.execPath} ${program} --home ${home} "$@"\n`, {
      mode: 0o755,
    })
    const paired = await agentctl(['pair', server.target, '--name', 'bench', '--agentd', agentd], env)
    if (paired.code !== 0) throw new Error(paired.stderr)
    const warm: number[] = []
    const cold: number[] = []
    for (let round = 0; round < ROUNDS; round += 1) warm.push(await timeMs(() => agentctl(['status'], env)))
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const pid of server.masters()) process.kill(pid, 'SIGKILL')
      cold.push(await timeMs(() => agentctl(['status'], env)))
    }
    tell('over ssh, warm', warm, 100)
    tell('over ssh, cold', cold, 600)
    await pullOverSsh(env)
  } finally {
    await server.close()
  }
}

async function pullOverSsh(env: Readonly<Record<string, string>>): Promise<void> {
  const name = 'checkpoint-1'
  mkdirSync(join(home, 'copy'))
  makeCheckpoint(join(home, 'out', name), { 'weights.dat': PULL_BYTES }, name)
  const manifest = join(home, 'm.yaml')
  writeFileSync(
    manifest,
    `version: 1\nname: m\nsync: [{name: out, path: ${home}/out, to: ${home}/copy, settle: 1s}]\n`,
  )
  await agentctl(['apply', manifest], env)
  while (!(await agentctl(['checkpoints'], env)).stdout.includes(name)) await delay(500)
  await agentctl(['sync', 'out', '--now'], env)
  let ended: Ended | undefined
  const ms = await timeMs(async () => {
    ended = await agentctl(['pull-checkpoint', name, '--to', join(home, 'here')], env)
  })
  const verdict = ended?.code === 0 ? 'PASS' : `MISS: ${ended?.stderr ?? ''}`
  console.log(
    `pull over ssh     1 GB in ${(ms / 1000).toFixed(1)} s, ${(PULL_BYTES / 1e3 / ms).toFixed(0)} MB/s, verified ${verdict}`,
  )
}
