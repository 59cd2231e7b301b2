import { spawn } from 'node:child_process'
import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer, text } from 'node:stream/consumers'
import { randomBytes } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { BRIDGE_GREETING } from '../../shared/contract/bridge.ts'
import { EXIT } from '../../shared/contract/errors.ts'
import { runProgram } from '../support/agent-process.ts'
import { AGENTD } from '../support/programs.ts'

/* The real `agentd bridge`, with a socket of our own in the place of the agent's. */

const AN_ANSWER = 4 * 2 ** 20

test('bytes pass both ways after the greeting, and the end of the input reaches the agent', async () => {
  const { bridge, agent } = await startBridge()
  const sent = randomBytes(AN_ANSWER)
  const answered = randomBytes(AN_ANSWER)
  bridge.stdin.end(sent)
  const [arrived, came, status] = await Promise.all([
    // The agent answers when it has heard everything.
    buffer(agent).then((bytes) => (agent.end(answered), bytes)),
    buffer(bridge.stdout),
    exitOf(bridge),
  ])
  expect(arrived.equals(sent)).toBe(true)
  expect(came.equals(Buffer.concat([Buffer.from(BRIDGE_GREETING), answered]))).toBe(true)
  expect(status).toBe(EXIT.done)
})

test('the agent’s end is the end, also while the input stays open', async () => {
  const { bridge, agent } = await startBridge()
  agent.end('the last word')
  expect(await text(bridge.stdout)).toBe(`${BRIDGE_GREETING}the last word`)
  expect(await exitOf(bridge)).toBe(EXIT.done)
})

test('a client that goes away takes the bridge and its connection with it', async () => {
  const { bridge, agent } = await startBridge()
  await once(bridge.stdout, 'data')
  const closed = new Promise((resolve) => agent.once('close', resolve))
  bridge.stdout.destroy()
  // It finds out as it writes, which is what an agent with followers does all the time.
  agent.write(randomBytes(AN_ANSWER))
  expect(await exitOf(bridge)).toBe(EXIT.done)
  await closed
})

test('keys go through while nobody reads what the agent says', async () => {
  const { bridge, agent } = await startBridge()
  agent.write(randomBytes(AN_ANSWER))
  bridge.stdin.write('stop')
  expect(String((await once(agent, 'data'))[0])).toBe('stop')
})

test('a socket where nobody listens is told in two lines', async () => {
  const path = join(folderOfOurs(), 'agent.sock')
  expect(await runProgram([process.execPath, AGENTD, 'bridge', '--socket', path])).toEqual({
    code: EXIT.unreachable,
    stdout: '',
    stderr: expect.stringMatching(
      /^error: no agent answers on .*agent\.sock: .+\ntry: Start agentd, .+\n$/,
    ) as string,
  })
})

test('the socket of --home is the usual one, and none but an absolute path is taken', async () => {
  const home = folderOfOurs()
  const { stderr } = await runProgram([process.execPath, AGENTD, 'bridge', '--home', home])
  expect(stderr).toContain(`no agent answers on ${home}/run/agent.sock`)
  const refused = await runProgram([process.execPath, AGENTD, 'bridge', '--socket', 'localhost:22'])
  expect(refused.code).toBe(EXIT.usage)
})

const startBridge = async (): Promise<{ bridge: ChildProcessWithoutNullStreams; agent: Socket }> => {
  const path = join(folderOfOurs(), 'agent.sock')
  const server = createServer({ allowHalfOpen: true }).listen(path)
  await once(server, 'listening')
  const bridge = spawn(process.execPath, [AGENTD, 'bridge', '--socket', path])
  onTestFinished(() => {
    bridge.kill('SIGKILL')
    server.close()
  })
  const [agent] = (await once(server, 'connection')) as [Socket]
  // A bridge that is gone is what some of the tests are about.
  agent.on('error', () => undefined)
  return { bridge, agent }
}

const exitOf = async (child: ChildProcessWithoutNullStreams): Promise<number | null> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  return child.exitCode
}

const folderOfOurs = (): string => {
  const folder = mkdtempSync(join(tmpdir(), 'gb-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
