import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { StatusRecord } from '../../shared/contract/records.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import { startHub } from '../support/hub/hub.ts'
import { findRclone, serveWebdav } from '../support/rclone.ts'

/*
 * A box that starts again on its own: nobody looks, it bills, and what it reaches for may not be there yet.
 */

const rclone = findRclone()
const skipped = rclone.path === undefined
const PASSWORD = 'a password of the store'

const statusOf = async (agent: AgentProcess): Promise<StatusRecord> =>
  JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord

/** The status as soon as it is as wanted. */
const waitFor = async (
  agent: AgentProcess,
  isSo: (status: StatusRecord) => boolean,
): Promise<StatusRecord> => {
  for (;;) {
    const status = await statusOf(agent)
    if (isSo(status)) return status
  }
}

/** What a container's end leaves: nothing that ran. */
const endBox = async (agent: AgentProcess): Promise<void> => {
  await agent.agentctl(['stop', 'train'])
  await agent.agentctl(['start', 'train'])
  const { processes } = await statusOf(agent)
  await agent.kill('SIGKILL')
  for (const { pid } of processes) if (pid !== null) process.kill(pid, 'SIGKILL')
}

const makeBox = (rest: string, secrets = '[]'): { home: string; manifest: string } => {
  const home = makeHome()
  onTestFinished(() => removeHome(home))
  mkdirSync(join(home, 'out'))
  const manifest = join(home, 'box.yaml')
  writeFileSync(
    manifest,
    `version: 1
name: box
secrets: {required: ${secrets}}
processes: {train: {kind: command, command: [sleep, "100000"], restart: always}}
${rest}`,
  )
  return { home, manifest }
}

test.skipIf(skipped)(
  `a box that starts while its remote is away starts its processes, and copies once it is back${skipped ? ` (skipped: ${rclone.reason})` : ''}`,
  async () => {
    if (skipped) return
    const store = makeHome()
    onTestFinished(() => removeHome(store))
    const serve = (port?: number) =>
      serveWebdav(rclone.path, { folder: store, user: 'me', password: PASSWORD, port })
    const server = await serve()
    const { home, manifest } = makeBox('', '[DAV_PASSWORD]')
    writeFileSync(
      manifest,
      `${readFileSync(manifest, 'utf8')}remotes: {store: {type: webdav, url: "${server.url}", user: me, pass: "\${DAV_PASSWORD}"}}
sync: [{name: out, path: ${home}/out, to: "store:run-1", every: 1s, settle: 50ms}]\n`,
    )
    const env = { PATH: `${rclone.folder}:${process.env['PATH'] ?? ''}`, DAV_PASSWORD: PASSWORD }
    const first = await startAgent({ home, env })
    expect((await first.agentctl(['apply', manifest])).code).toBe(0)
    await endBox(first)
    await server.close()

    const agent = await startAgent({ home, env })
    const status = await waitFor(agent, ({ run }) => run?.state === 'ready')
    expect(status.run?.problems).toMatchObject([{ code: 'remote_unreachable', severity: 'warning' }])
    expect(status.processes).toMatchObject([{ name: 'train', state: 'running' }])
    writeFileSync(join(home, 'out/model.txt'), 'weights')
    const again = await serve(Number(new URL(server.url).port))
    onTestFinished(() => again.close())
    await expect
      .poll(() => existsSync(join(store, 'run-1/.gpu-agent/model.txt.json')), { timeout: 60_000 })
      .toBe(true)
    expect(readFileSync(join(store, 'run-1/model.txt'), 'utf8')).toBe('weights')
  },
  120_000,
)

test('a box that starts before its network does is brought to its manifest once that is there', async () => {
  const files = [{ repo: 'o/gated', path: 'a.safetensors', sizeBytes: 1000, seed: 'a' }]
  const hub = await startHub({ files })
  const env = { HF_ENDPOINT: hub.url, AGENT_ALLOW_HOSTS: '127.0.0.1' }
  const { home, manifest } = makeBox('requires: {access: ["hf://o/gated@main/a.safetensors"]}\n')
  const first = await startAgent({ home, env })
  expect((await first.agentctl(['apply', manifest])).code).toBe(0)
  await endBox(first)
  await hub.close()

  const agent = await startAgent({ home, env })
  const before = await waitFor(agent, ({ run }) => run?.state === 'failed')
  expect(before).toMatchObject({ healthy: false, run: { problems: [{ code: 'source_unavailable' }] } })
  const again = await startHub({ files, port: Number(new URL(hub.url).port) })
  onTestFinished(() => again.close())
  const after = await waitFor(agent, ({ run }) => run?.state === 'ready')
  expect(after.processes).toMatchObject([{ name: 'train', state: 'running' }])
}, 120_000)

test('a box that cannot be brought to its manifest when it starts says so, and is not healthy', async () => {
  const { home, manifest } = makeBox('', '[MY_KEY]')
  const first = await startAgent({ home, env: { MY_KEY: 'a key' } })
  expect((await first.agentctl(['apply', manifest])).code).toBe(0)
  await endBox(first)
  const agent = await startAgent({ home })
  const status = await waitFor(agent, ({ run }) => run?.state === 'failed')
  expect(status).toMatchObject({ healthy: false, run: { problems: [{ code: 'secret_missing' }] } })
}, 60_000)
