import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { startDemoWorld } from '../support/demo-world.ts'
import { sha256OfFile } from '../support/sha256-of-file.ts'

const MODEL_BYTES = 64e6
/** At most one piece for each connection may be fetched again after a kill (agent/downloads). */
const REFETCH_LIMIT_BYTES = 4 * 8 * 2 ** 20 * 2

const statusOf = async (agent: AgentProcess): Promise<StatusRecord> =>
  JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord

/** Moments spread over the whole apply, each at a random place in its tenth. */
const MOMENTS = Array.from({ length: 10 }, (_, tenth) => ({ tenth, after: (tenth + Math.random()) / 10 }))
/** What an undisturbed apply takes here; a first run measures it. */
let applyMs = 4_000

test('an undisturbed apply fetches every byte once', async () => {
  const home = makeHome()
  const world = await startDemoWorld(home, { modelBytes: MODEL_BYTES })
  const agent = await startAgent({ home, env: world.environment, programs: 'built' })
  try {
    const startedMs = performance.now()
    const applied = await agent.agentctl(['apply', world.manifestPath])
    expect(applied.code, applied.stderr + agent.log()).toBe(0)
    applyMs = performance.now() - startedMs
    const sent = world.hub.sentBytes('cdn')
    expect(sent).toBeGreaterThanOrEqual(2 * MODEL_BYTES)
    expect(sent).toBeLessThan(2 * MODEL_BYTES + 2 ** 20)
  } finally {
    await agent.kill('SIGTERM')
    await world.close()
    await removeHome(home)
  }
})

test.each(MOMENTS)(
  'agentd killed in tenth $tenth of apply and started again ends in ready',
  async ({ after }) => {
    const home = makeHome()
    const world = await startDemoWorld(home, { modelBytes: MODEL_BYTES })
    let agent = await startAgent({ home, env: world.environment, programs: 'built' })
    try {
      const applying = agent.agentctl(['apply', world.manifestPath, '--detach'])
      await delay(after * applyMs)
      await agent.kill('SIGKILL')
      await applying
      agent = await startAgent({ home, env: world.environment, programs: 'built' })
      // A kill before the run was on record leaves nothing to go on with: the user applies again.
      if ((await statusOf(agent)).run === null)
        await agent.agentctl(['apply', world.manifestPath, '--detach'])
      await expect
        .poll(async () => (await statusOf(agent)).run?.state, { timeout: 60_000, interval: 200 })
        .toBe('ready')
      expect(await statusOf(agent)).toMatchObject({
        healthy: true,
        processes: [{ name: 'trainer', state: 'ready' }],
      })
      for (const [path, hash] of Object.entries(world.hashes))
        expect(await sha256OfFile(join(home, path))).toBe(hash)
      expect(world.hub.sentBytes('cdn')).toBeLessThan(2 * MODEL_BYTES + REFETCH_LIMIT_BYTES)
    } finally {
      await agent.kill('SIGTERM')
      await world.close()
      await removeHome(home)
    }
  },
)
