import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { ModelRow, PlanRecord, Problem, RunRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import { startAgentctl } from '../support/agentctl.ts'
import type { Fault } from '../support/hub/faults.ts'
import { COMMIT } from '../support/hub/hub-model.ts'
import { startHub } from '../support/hub/hub.ts'
import { sha256OfFile } from '../support/sha256-of-file.ts'

const repo = 'owner/repo'

const startBox = async () => {
  const home = makeHome()
  const hub = await startHub({
    files: [
      { repo, path: 'a.safetensors', sizeBytes: 3_000_000 },
      { repo, path: 'b.safetensors', sizeBytes: 2_000_000 },
      { repo, path: 'config.json', text: '{"a":1}', small: true },
    ],
  })
  const env = { HF_ENDPOINT: hub.url, AGENT_ALLOW_HOSTS: hub.allowHosts.join(',') }
  const manifest = join(home, 'box.yaml')
  writeFileSync(
    manifest,
    `version: 1
name: models
models_root: ${home}/models
hf_home: ${home}/hf
downloads:
  - {to: a.safetensors, from: ["hf://${repo}@main/a.safetensors"]}
  - {snapshot: "hf://${repo}@main", include: ["*.json"]}
`,
  )
  return { home, hub, env, manifest }
}

test('agentctl pull and models verify on a real box; then it comes up again without any network', async () => {
  const { home, hub, env, manifest } = await startBox()
  let agent = await startAgent({ home, env })
  try {
    expect(await agent.agentctl(['pull', `hf://${repo}@main/b.safetensors`])).toMatchObject({ code: 3 })
    expect(await agent.agentctl(['apply', manifest])).toMatchObject({ code: 0 })

    const pulled = await agent.agentctl([
      '--json',
      'pull',
      `hf://${repo}@main/b.safetensors`,
      '--to',
      'loras/',
    ])
    expect(pulled.code, pulled.stderr).toBe(0)
    const { model } = JSON.parse(pulled.stdout) as { model: ModelRow }
    expect(model).toMatchObject({
      path: join(home, 'models/loras/b.safetensors'),
      state: 'done',
      sizeBytes: 2_000_000,
    })
    expect(await sha256OfFile(join(home, 'models/loras/b.safetensors'))).toBe(model.sha256)
    const missing = await agent.agentctl(['pull', `hf://${repo}@main/none.safetensors`])
    expect(missing).toMatchObject({ code: 1, stdout: '' })
    expect(missing.stderr).toContain('has no file none.safetensors')

    expect(await agent.agentctl(['models', 'verify'])).toMatchObject({ code: 0 })
    const path = join(home, 'models/a.safetensors')
    const bytes = readFileSync(path)
    bytes[1_000_000]! ^= 1
    writeFileSync(path, bytes)
    const verified = await agent.agentctl(['models', 'verify', '--json'])
    expect(verified.code).toBe(1)
    expect(JSON.parse(verified.stdout)).toMatchObject({
      problems: [{ code: 'file_damaged', subject: 'a.safetensors' }],
    })
    expect(await agent.agentctl(['apply', manifest])).toMatchObject({ code: 0 })
    expect(await agent.agentctl(['models', 'verify'])).toMatchObject({ code: 0 })

    // What leaves the manifest stays on the disk, and the plan says so.
    const less = join(home, 'less.yaml')
    writeFileSync(less, `version: 1\nname: less\nmodels_root: ${home}/models\n`)
    const plan = await agent.agentctl(['plan', less, '--json'])
    const { changes } = JSON.parse(plan.stdout) as PlanRecord
    expect(changes.left.files).toEqual([
      { path, sizeBytes: 3_000_000 },
      { path: `hf://${repo}@${COMMIT}`, sizeBytes: 7 },
      { path: join(home, 'models/loras/b.safetensors'), sizeBytes: 2_000_000 },
    ])
    const kept = await agent.agentctl(['plan', manifest, '--json'])
    expect((JSON.parse(kept.stdout) as PlanRecord).changes).toMatchObject({
      downloads: [{ to: 'a.safetensors', action: 'keep', sizeBytes: 3_000_000 }, { action: 'keep' }],
      left: { files: [{ path: join(home, 'models/loras/b.safetensors') }] },
    })

    await agent.kill('SIGTERM')
    await hub.close()
    agent = await startAgent({ home, env })
    const lastRun = async (): Promise<RunRecord | undefined> =>
      (JSON.parse((await agent.agentctl(['runs', '--json'])).stdout) as { runs: RunRecord[] }).runs[0]
    await expect.poll(async () => (await lastRun())?.state, { timeout: 60_000, interval: 300 }).toBe('ready')
    const run = await lastRun()
    expect(run?.problems).toMatchObject([{ code: 'source_unavailable', severity: 'warning' }])
    expect(run?.problems[0]?.message).toContain(`its files at commit ${COMMIT.slice(0, 12)} are here`)
  } finally {
    await agent.kill('SIGTERM')
    await hub.close()
    await removeHome(home)
  }
})

test('case 44: of six files the fifth is gated: all of it is refused before the first byte, and the file is named', async () => {
  const home = makeHome()
  const names = [1, 2, 3, 4, 5, 6].map((number) => `file-${number}.safetensors`)
  const hub = await startHub({
    files: names.map((path, index) => ({
      repo: index === 4 ? 'owner/gated' : repo,
      path,
      sizeBytes: 1_000_000,
      gated: index === 4,
    })),
  })
  const manifest = join(home, 'box.yaml')
  const downloads = names.map((name, index) => {
    const source = `hf://${index === 4 ? 'owner/gated' : repo}@main/${name}`
    return `  - {to: ${name}, from: ["${source}"]}`
  })
  writeFileSync(
    manifest,
    `version: 1\nname: six\nmodels_root: ${home}/models\ndownloads:\n${downloads.join('\n')}\n`,
  )
  const env = { HF_ENDPOINT: hub.url, AGENT_ALLOW_HOSTS: hub.allowHosts.join(',') }
  const agent = await startAgent({ home, env })
  try {
    const applied = await agent.agentctl(['apply', manifest, '--json'])
    expect(applied.code).toBe(3)
    const { error } = JSON.parse(applied.stdout) as { error: { problems: Problem[] } }
    expect(error.problems.filter(({ severity }) => severity === 'error')).toMatchObject([
      { code: 'gated', subject: 'file-5.safetensors' },
    ])
    expect(hub.sentBytes('cdn')).toBe(0)
    expect(existsSync(join(home, 'models'))).toBe(false)
  } finally {
    await agent.kill('SIGTERM')
    await hub.close()
    await removeHome(home)
  }
})

test('Ctrl-C ends a pull with 130 and stops the transfer; the next pull fetches only the rest', async () => {
  const home = makeHome()
  const path = 'a.safetensors'
  const slow: Fault = { at: 'cdn', does: { kind: 'slow', bytesPerSecond: 4_000_000 } }
  const hub = await startHub({ files: [{ repo, path, sizeBytes: 64_000_000, faults: [slow] }] })
  const env = { HF_ENDPOINT: hub.url, AGENT_ALLOW_HOSTS: hub.allowHosts.join(',') }
  const agent = await startAgent({ home, env })
  const to = join(home, 'mine', path)
  const args = ['pull', `hf://${repo}@main/${path}`, '--to', to]
  try {
    const pulling = startAgentctl(args, { env: { ...env, AGENT_HOME: home, HOME: home } })
    await expect.poll(() => hub.sentBytes('cdn'), { timeout: 60_000 }).toBeGreaterThan(8_000_000)
    pulling.child.kill('SIGINT')
    const ended = await pulling.ended
    expect(ended.code).toBe(130)
    expect(ended.stderr).toContain('Pull it again: what came is kept')
    // The box lets go: no connection is left, and the claim of the destination is given back.
    await expect.poll(() => existsSync(`${to}.part.claim`), { timeout: 60_000 }).toBe(false)
    expect(existsSync(`${to}.part.json`)).toBe(true)
    hub.file(path).faults.length = 0
    const before = hub.sentBytes('cdn')
    expect(await agent.agentctl(args)).toMatchObject({ code: 0 })
    expect(hub.sentBytes('cdn') - before).toBeLessThan(64_000_000)
    expect(await sha256OfFile(to)).toBe(hub.file(path).content.sha256)
  } finally {
    await agent.kill('SIGTERM')
    await hub.close()
    await removeHome(home)
  }
})

test('a path whose value is not on the box any more is told, and nothing is brought to what the manifest spells', async () => {
  const { home, hub, env } = await startBox()
  const agent = await startAgent({ home, env })
  try {
    const manifest = join(home, 'named.yaml')
    writeFileSync(manifest, 'version: 1\nname: named\nmodels_root: "${DISK}/models"\n')
    const set = await agent.agentctl(['secret', 'set', 'DISK'], { input: home })
    expect(set.code, set.stderr).toBe(0)
    expect(await agent.agentctl(['apply', manifest])).toMatchObject({ code: 0 })
    await agent.agentctl(['secret', 'rm', 'DISK'])
    const pulled = await agent.agentctl(['pull', `hf://${repo}@main/b.safetensors`])
    expect(pulled).toMatchObject({ code: 3, stdout: '' })
    expect(pulled.stderr).toContain('error: the box does not have DISK and models_root needs it\ntry: ')
  } finally {
    await agent.kill('SIGTERM')
    await hub.close()
    await removeHome(home)
  }
})
