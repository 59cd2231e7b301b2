import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { startDemoWorld } from '../support/demo-world.ts'
import { sha256OfFile } from '../support/sha256-of-file.ts'

const MODEL_BYTES = 64e6
/** A connection that is overtaken at the end may have read a little of another’s part. */
const OVERLAP_BYTES = 16 * 2 ** 20

/** Bytes of a destination that need not come again: all of a file that has its name, else what the record names. */
const keptBytes = (path: string): number => {
  if (existsSync(path)) return MODEL_BYTES
  try {
    const { done } = JSON.parse(readFileSync(`${path}.part.json`, 'utf8')) as { done: [number, number][] }
    return done.reduce((sum, [start, end]) => sum + end - start, 0)
  } catch {
    // Killed before the first record. A torn one would be an error of its own kind: it is replaced in one step.
    return 0
  }
}

const statusOf = async (agent: AgentProcess): Promise<StatusRecord> =>
  JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord

/** Moments spread over the whole apply, each at a random place in its tenth. */
const MOMENTS = Array.from({ length: 10 }, (_, tenth) => ({ tenth, after: (tenth + Math.random()) / 10 }))
/** What an undisturbed apply takes here; a first run measures it. */
let applyMs = 4_000

test('an undisturbed apply fetches every byte once', async () => {
  const home = makeHome()
  const world = await startDemoWorld(home, { modelBytes: MODEL_BYTES })
  const agent = await startAgent({ home, env: world.environment })
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
    let agent = await startAgent({ home, env: world.environment })
    try {
      const applying = agent.agentctl(['apply', world.manifestPath, '--detach'])
      await delay(after * applyMs)
      await agent.kill('SIGKILL')
      await applying
      const kept = Object.keys(world.hashes).reduce((sum, path) => sum + keptBytes(join(home, path)), 0)
      const sent = world.hub.sentBytes('cdn')
      agent = await startAgent({ home, env: world.environment })
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
      expect(world.hub.sentBytes('cdn') - sent).toBeLessThan(2 * MODEL_BYTES - kept + OVERLAP_BYTES)
    } finally {
      await agent.kill('SIGTERM')
      await world.close()
      await removeHome(home)
    }
  },
)
