import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CHUNK_BYTES } from '../../shared/contract/chunks.ts'
import { runProgram } from '../../tests/support/agent-process.ts'
import { AGENTCTL, AGENTD } from '../../tests/support/programs.ts'
import type { SshServer } from '../../tests/support/ssh-server.ts'
import { noSshServer, startSshServer } from '../../tests/support/ssh-server.ts'
import { median } from '../measure.ts'
import { printGoal, printSkipped } from './goals.ts'
import { startPacedRelay } from './paced-relay.ts'
import { mustDo, timed, withAgent } from './world.ts'

const GIGABIT_BYTES = 125_000_000
const CONNECTIONS = 4
const ROUNDS = 3

/** `pull-checkpoint` through ssh beside scp: on bare loopback, on a link of 1 Gbit/s, and after a kill at one half. */
export const measurePull = async ({ source, folder }: { source: string; folder: string }): Promise<void> => {
  if (noSshServer !== undefined) {
    printSkipped('pull through ssh', noSshServer)
    return
  }
  const sizeBytes = statSync(join(source, 'checkpoint-1/model.bin')).size
  const server = await startSshServer()
  const local = join(folder, 'pull-remote')
  try {
    await withAgent(
      `sync:\n  - {name: s, path: ${source}, to: ${local}, every: 4h, settle: 1s}\n`,
      async (agent) => {
        await mustDo(agent, ['sync', '--now'])
        const agentd = join(server.folder, 'bin/agentd')
        writeFileSync(agentd, `#!/bin/sh\nexec ${process.execPath} ${AGENTD} --home ${agent.home} "$@"\n`, {
          mode: 0o755,
        })
        const port = Number(server.target.split(':')[1])
        const relay = await startPacedRelay(port, { bytesPerSecond: GIGABIT_BYTES })
        const at = { server, agentd, folder, name: 'checkpoint-1', source }
        const bare = createSide({ ...at, port })
        const held = createSide({ ...at, port: relay.port })
        await bare.pair()
        await held.pair()

        const [scpBare, oursBare] = await inTurn(bare)
        printGoal({
          what: 'a pull through ssh on bare loopback has',
          value: scpBare / oursBare,
          unit: '× the speed of scp',
          atLeast: 0.6,
          note: speeds(sizeBytes, { ours: oursBare, scp: scpBare }),
        })
        const [scpHeld, oursHeld] = await inTurn(held)
        printGoal({
          what: 'on a link of 1 Gbit/s it has',
          value: scpHeld / oursHeld,
          unit: '× the speed of scp',
          atLeast: 0.95,
          note: speeds(sizeBytes, { ours: oursHeld, scp: scpHeld }),
        })
        const before = relay.bytes()
        await held.pull()
        const once = relay.bytes() - before
        await held.pullAndKill(0.5)
        await held.pull()
        const twice = relay.bytes() - before - once
        printGoal({
          what: 'after a kill at one half, fetched again',
          value: Math.max(0, twice - once) / CHUNK_BYTES,
          unit: 'segments of 8 MiB',
          // What was on its way when the client died counts too: what ssh and the sockets hold.
          atMost: CONNECTIONS + 1,
          note: `${CONNECTIONS} connections; ${(twice / 1e6).toFixed(0)} MB came in all, ${(once / 1e6).toFixed(0)} MB without the kill`,
        })
        await relay.close()
      },
    )
  } finally {
    await server.close()
    rmSync(local, { recursive: true, force: true })
  }
}

/** Median seconds of scp and of a pull, which take turns: what the disk still has to do for the one meets the other. */
const inTurn = async (side: ReturnType<typeof createSide>): Promise<readonly [scp: number, ours: number]> => {
  const [scp, ours]: [number[], number[]] = [[], []]
  for (let round = 0; round < ROUNDS; round += 1) {
    scp.push(await timed(side.scp))
    ours.push(await timed(side.pull))
  }
  return [median(scp), median(ours)]
}

const speeds = (sizeBytes: number, seconds: { ours: number; scp: number }): string =>
  `${(sizeBytes / 1e6 / seconds.ours).toFixed(0)} MB/s, scp ${(sizeBytes / 1e6 / seconds.scp).toFixed(0)} MB/s`

type Side = {
  readonly server: SshServer
  readonly agentd: string
  readonly folder: string
  readonly source: string
  readonly name: string
  readonly port: number
}

/** One way to the box: by this port. */
const createSide = ({ server, agentd, folder, source, name, port }: Side) => {
  const context = `port-${port}`
  const target = `${server.target.split(':')[0] ?? ''}:${port}`
  const to = join(folder, `pulled-${port}`)
  const agentctl = async (args: readonly string[]): Promise<void> => {
    const { code, stderr } = await runProgram([process.execPath, AGENTCTL, ...args], { env: server.env })
    if (code !== 0) throw new Error(`agentctl ${args.join(' ')} exited with ${code}: ${stderr}`)
  }
  const pulling = ['--context', context, 'pull-checkpoint', name, '--to', to]
  const withoutOld = (): void => {
    rmSync(join(to, name), { recursive: true, force: true })
    mkdirSync(to, { recursive: true })
  }
  return {
    pair: () => agentctl(['pair', target, '--name', context, '--agentd', agentd]),
    pull: async (): Promise<void> => {
      withoutOld()
      await agentctl(pulling)
    },
    pullAndKill: async (share: number): Promise<void> => {
      withoutOld()
      const child = spawn(process.execPath, [AGENTCTL, ...pulling], { env: server.env, stdio: 'ignore' })
      const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
      const total = statSync(join(source, name, 'model.bin')).size
      const journal = join(to, `${name}.partial/journal.jsonl`)
      while (child.exitCode === null && linesOf(journal) * CHUNK_BYTES < share * total) await delay(20)
      child.kill('SIGKILL')
      await ended
    },
    // Not synchronous: the relay works in this process.
    scp: async (): Promise<void> => {
      withoutOld()
      const args = ['-q', '-r', '-P', String(port), '-F', join(server.folder, 'ssh_config')]
      const known = [
        '-o',
        'StrictHostKeyChecking=no',
        '-o',
        'UserKnownHostsFile=/dev/null',
        '-o',
        'LogLevel=ERROR',
      ]
      const user = server.target.split('@')[0] ?? ''
      const from = `${user}@127.0.0.1:${join(source, name)}`
      const { code, stderr } = await runProgram(['scp', ...args, ...known, from, to], { env: server.env })
      if (code !== 0) throw new Error(`scp exited with ${code}: ${stderr}`)
    },
  }
}

const linesOf = (path: string): number => {
  try {
    return readFileSync(path, 'utf8').split('\n').length - 2
  } catch {
    // It is not there yet.
    return 0
  }
}
