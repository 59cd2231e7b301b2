import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { RunRecord, StatusRecord } from '../../shared/contract/records.ts'
import { startAgentForFile } from '../support/agent-for-file.ts'
import { makeCosmos } from '../support/cosmos/stand-in.ts'

/* What went wrong with Cosmos on rented boxes, as a user of agentd and agentctl meets it now. */

const agent = await startAgentForFile()
const { home } = agent

const applyCosmos = async (spec: Readonly<Record<string, unknown>>): Promise<RunRecord> => {
  const manifest = join(home, 'manifest.yaml')
  const processes = { enrich: { kind: 'cosmos', ...spec } }
  writeFileSync(manifest, JSON.stringify({ version: 1, name: 'enrich', processes }))
  const { stdout } = await agent.agentctl(['apply', manifest, '--json'])
  return (JSON.parse(stdout) as { run: RunRecord }).run
}

const status = async (): Promise<StatusRecord> =>
  JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord

test('incident B7: the gated guardrail model does not block a run, because its version’s own flag leaves it out', async () => {
  for (const version of ['2.5', '3'] as const) {
    const folder = join(home, `cosmos-${version}`)
    const { working_dir, command } = makeCosmos(folder, version, { 'prompts.json': '["a kitchen"]' })
    await applyCosmos({ working_dir, command: [...command, '-i', 'prompts.json', '-o', 'out'] })
    expect((await agent.agentctl(['wait', 'enrich'])).code).toBe(0)
    expect(readdirSync(join(folder, 'out'))).toEqual(['0.mp4'])
  }
})

test('incident B10: prompts that could not be generated are never replaced silently', async () => {
  const { working_dir, command } = makeCosmos(join(home, 'cosmos'), '2.5', {
    // A model takes its time: by then the step counts as running.
    'make_prompts.py': 'import time; time.sleep(3); raise SystemExit("the language model did not answer")',
    'spare.json': '["another scene"]',
  })
  const spec = { working_dir, command: [...command, '-i', '{variants}', '-o', 'out'] }
  const make = { command: ['python3', 'make_prompts.py'], count: 1 }
  const failed = await applyCosmos({ ...spec, variants: make })
  expect(failed.state).toBe('failed')
  // Beside it stands what else this machine lacks: ffmpeg, perhaps.
  expect(failed.problems.map(({ message }) => message).join('\n')).toContain(
    'the language model did not answer',
  )
  expect(readdirSync(working_dir)).not.toContain('out')

  const fallback = join(working_dir, 'spare.json')
  const degraded = await applyCosmos({ ...spec, variants: { ...make, fallback } })
  expect(degraded.state).toBe('degraded')
  expect(degraded.problems).toContainEqual(
    expect.objectContaining({ code: 'variants_failed', severity: 'warning', subject: 'enrich.variants' }),
  )
  expect((await agent.agentctl(['wait', 'enrich'])).code).toBe(0)
  expect(await status()).toMatchObject({ healthy: false, run: { state: 'degraded' } })
})
