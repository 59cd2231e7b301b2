import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { holds, makeCheckpoint } from '../support/checkpoint.ts'
import type { Pull } from '../support/pull.ts'
import { CHUNKS, createPull, MIB, NAME } from '../support/pull.ts'

let at: Pull
beforeEach(async () => {
  at = await createPull()
})
afterEach(() => at.box.close())

test('a checkpoint arrives whole under its name, and nothing else is left', async () => {
  const { code, stdout, stderr } = await at.run('--json')
  expect(stderr).toContain(at.made.files.digest)
  expect(code).toBe(EXIT.done)
  expect(JSON.parse(stdout)).toMatchObject({
    checkpoint: { name: NAME, digest: at.made.files.digest, path: at.target },
  })
  expect(holds(at.target, at.made)).toBe(true)
  expect(readdirSync(at.to)).toEqual([NAME])
  expect(at.chunkRequests()).toBe(CHUNKS)
})

test('what is here already is proven and not fetched again', async () => {
  await at.run()
  at.box.requests.length = 0
  const { code, stdout } = await at.run()
  expect(code).toBe(EXIT.done)
  expect(stdout).toContain('here already')
  expect(at.chunkRequests()).toBe(0)
})

test('a new version keeps the old one aside and fetches only what changed', async () => {
  await at.run()
  writeFileSync(join(at.target, 'model.safetensors'), 'broken here')
  at.box.requests.length = 0
  const { code, stdout } = await at.run()
  expect(code).toBe(EXIT.done)
  expect(holds(at.target, at.made)).toBe(true)
  expect(at.chunkRequests()).toBe(5)
  const aside = readdirSync(at.to).find((name) => name.startsWith(`${NAME}.previous-`)) ?? ''
  expect(stdout).toContain(aside)
  expect(readFileSync(join(at.to, aside, 'model.safetensors'), 'utf8')).toBe('broken here')
})

test('a checkpoint that is a single file lands under its own name, also in a run', async () => {
  const single = makeCheckpoint(
    join(at.box.home, 'single'),
    { 'epoch=1.ckpt': 9 * MIB },
    'run-1/checkpoints/epoch=1.ckpt',
  )
  at.box.records.checkpoint = { ...single, files: { ...single.files, kind: 'file' } }
  expect((await at.run()).code).toBe(EXIT.done)
  const path = join(at.to, 'run-1/checkpoints/epoch=1.ckpt')
  expect(readFileSync(path)).toEqual(readFileSync(join(single.folder, 'epoch=1.ckpt')))
  expect(readdirSync(join(at.to, 'run-1/checkpoints'))).toEqual(['epoch=1.ckpt'])
  expect((await at.run()).stdout).toContain('here already')
})

test('a checkpoint of a run lands in the folder of the run', async () => {
  at.box.records.checkpoint = { ...at.made, files: { ...at.made.files, name: 'run-1/checkpoint-500' } }
  const { code } = await runAgentctl(['pull-checkpoint', 'run-1/checkpoint-500', '--to', at.to], {
    env: at.box.env,
  })
  expect(code).toBe(EXIT.done)
  expect(holds(join(at.to, 'run-1/checkpoint-500'), at.made)).toBe(true)
})

test('a --to that is a file, and an empty name, are mistakes of the command line', async () => {
  const file = join(at.box.home, 'a-file')
  writeFileSync(file, '')
  for (const args of [
    ['pull-checkpoint', '--to', file],
    ['pull-checkpoint', '', '--to', at.to],
  ]) {
    const { code, stderr } = await runAgentctl(args, { env: at.box.env })
    expect(code).toBe(EXIT.usage)
    expect(stderr).toMatch(/^error: .+\ntry: .+\n$/)
  }
})

describe('--watch', () => {
  test('brings each new checkpoint, also after the agent was away, and status shows it', async () => {
    const watching = at.start('--watch', '--every', '1s', '--json')
    await watching.printed(`"${NAME}"`)
    const next = makeCheckpoint(join(at.box.home, 'next'), { 'model.safetensors': 'next' }, 'checkpoint-1000')
    await at.box.stop()
    await watching.printed('trying again')
    at.box.records.checkpoint = next
    await at.box.start()
    await watching.printed('"checkpoint-1000"')
    watching.child.kill('SIGINT')
    const { code, stdout } = await watching.ended
    expect(code).toBe(EXIT.interrupted)
    expect(stdout.trim().split('\n')).toHaveLength(2)
    expect(holds(at.target, at.made)).toBe(true)
    expect(holds(join(at.to, 'checkpoint-1000'), next)).toBe(true)
    const status = await runAgentctl(['status', '--json'], { env: at.box.env })
    const { pulls } = JSON.parse(status.stdout) as { pulls: { lastSuccessAt: string | null }[] }
    expect(pulls).toMatchObject([{ name: 'latest', to: at.to, checkpoint: 'checkpoint-1000', problem: null }])
    expect(pulls[0]?.lastSuccessAt).toMatch(/^\d{4}-/)
    // Whoever ended it with Ctrl-C expects nothing more of it.
    expect(pulls).toMatchObject([{ everySeconds: null, late: false }])
  })

  test('with a token that is not known it ends with 4 at once', async () => {
    const env = { ...at.box.env, AGENTCTL_TOKEN: 'wrong.token' }
    expect((await runAgentctl(['pull-checkpoint', '--to', at.to, '--watch'], { env })).code).toBe(
      EXIT.notAuthenticated,
    )
  })
})
