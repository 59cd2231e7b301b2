import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { AgentProcess } from '../support/agent-process.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'
import type { BadLine } from '../support/bad-line.ts'
import { startBadLine } from '../support/bad-line.ts'
import type { MadeCheckpoint } from '../support/checkpoint.ts'
import { holds, makeCheckpoint } from '../support/checkpoint.ts'
import type { SshServer } from '../support/ssh-server.ts'
import { noSshServer, startSshServer } from '../support/ssh-server.ts'
import { AGENTD } from '../support/programs.ts'

/* A checkpoint comes home over ssh on a line of 16 Mbit/s that breaks, or falls silent. */

const SIZE = 16 * 2 ** 20
/** The parts of a pull that are on their way when the line breaks may come again: a chunk for each connection. */
const IN_FLIGHT = 4 * 8 * 2 ** 20

describe.skipIf(noSshServer !== undefined)(`T25: a bad line (${noSshServer ?? 'real sshd'})`, () => {
  let home: string
  let server: SshServer
  let agent: AgentProcess
  let line: BadLine
  let made: MadeCheckpoint
  beforeAll(async () => {
    home = makeHome()
    server = await startSshServer()
    agent = await startAgent({ home })
    const agentd = join(server.folder, 'bin/agentd')
    const script = `#!/bin/sh\nexec ${process.execPath} ${AGENTD} --home ${home} "$@"\n`
    writeFileSync(agentd, script, { mode: 0o755 })
    made = makeCheckpoint(join(home, 'out/checkpoint-1'), { 'weights.dat': SIZE }, 'checkpoint-1')
    mkdirSync(join(home, 'copy'))
    const manifest = join(home, 'm.yaml')
    const sync = { name: 'out', path: join(home, 'out'), to: join(home, 'copy'), settle: '1s' }
    writeFileSync(manifest, JSON.stringify({ version: 1, name: 'm', sync: [sync] }))
    expect((await agent.agentctl(['apply', manifest])).code).toBe(0)
    while (!(await agent.agentctl(['checkpoints'])).stdout.includes('checkpoint-1')) await delay(100)
    const [user, port] = [server.target.split('@')[0] ?? '', Number(server.target.split(':')[1])]
    line = await startBadLine({ port, bytesPerSecond: 2e6 })
    const paired = await runAgentctl(
      ['pair', `${user}@127.0.0.1:${line.port}`, '--name', 'box', '--agentd', agentd],
      { env: server.env },
    )
    expect(paired.code, paired.stderr).toBe(0)
  })
  afterAll(async () => {
    await agent.kill('SIGTERM')
    await line.close()
    await server.close()
    await removeHome(home)
  })

  const pull = (to: string) =>
    startAgentctl(['pull-checkpoint', 'checkpoint-1', '--to', join(home, to)], { env: server.env })

  test('connections that are reset in the middle, three times, cost what was under way and no more', async () => {
    const before = { carried: line.carried(), connections: line.connections() }
    const pulling = pull('reset')
    for (const part of [0.2, 0.5, 0.8]) {
      await expect
        .poll(() => line.carried() - before.carried, { timeout: 60_000, interval: 20 })
        .toBeGreaterThan(part * SIZE)
      line.reset()
    }
    const { code, stderr } = await pulling.ended
    expect(code, stderr).toBe(0)
    expect(holds(join(home, 'reset/checkpoint-1'), made)).toBe(true)
    expect(line.connections() - before.connections).toBeGreaterThanOrEqual(3)
    expect(line.carried() - before.carried).toBeLessThan(SIZE + 3 * IN_FLIGHT)
  })

  test('a line that falls silent is noticed, and left for a new one', async () => {
    const before = { carried: line.carried(), connections: line.connections() }
    const pulling = pull('frozen')
    await expect
      .poll(() => line.carried() - before.carried, { timeout: 60_000, interval: 20 })
      .toBeGreaterThan(0.3 * SIZE)
    line.freeze()
    const { code, stderr } = await pulling.ended
    expect(code, stderr).toBe(0)
    expect(holds(join(home, 'frozen/checkpoint-1'), made)).toBe(true)
    expect(line.connections()).toBeGreaterThan(before.connections)
  })
})
