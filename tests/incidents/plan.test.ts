import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type {
  EventRecord,
  ModelRow,
  PlanRecord,
  Problem,
  RunRecord,
  StatusRecord,
} from '../../shared/contract/records.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { GOOD_TOKEN, STRANGER_TOKEN } from '../support/hub/hub-model.ts'
import type { HubFile } from '../support/hub/hub-model.ts'
import { startHub } from '../support/hub/hub.ts'
import type { Hub } from '../support/hub/hub.ts'

/* What was found out one paid attempt at a time, and is told before anything is rented or fetched now. */

const COSMOS_REPOSITORIES = [
  'nvidia/Cosmos-Transfer2.5-2B',
  'nvidia/Cosmos-Predict2.5-2B',
  'nvidia/Cosmos-Guardrail1',
]
const OPEN_REPOSITORIES = [
  'nvidia/Cosmos-Reason1-7B',
  'Qwen/Qwen3Guard-Gen-0.6B',
  'google/siglip-so400m-patch14-384',
]
const FILES: readonly HubFile[] = [
  { repo: 'o/models', path: 'first.safetensors' },
  { repo: 'o/models', path: 'second.safetensors' },
  { repo: 'o/gated', path: 'ltx.safetensors', gated: true },
  { repo: 'o/gated', path: 'gemma.safetensors', gated: true },
  { repo: 'o/copy', path: 'ltx-copy.safetensors', seed: 'ltx.safetensors' },
  { repo: 'o/copy', path: 'other.safetensors', sizeBytes: 4096 },
  ...COSMOS_REPOSITORIES.map((repo) => ({ repo, path: 'tokenizer.pth', gated: true })),
  ...OPEN_REPOSITORIES.map((repo) => ({ repo, path: 'model.safetensors' })),
]

let home: string
let hub: Hub
let agent: AgentProcess
beforeAll(async () => {
  home = makeHome()
  hub = await startHub({ files: FILES })
  agent = await startAgent({ home, env: { ...world(), HF_TOKEN: STRANGER_TOKEN } })
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await removeHome(home)
  await hub.close()
})

const world = () => ({
  HF_ENDPOINT: hub.url,
  CIVITAI_ENDPOINT: hub.civitaiUrl,
  AGENT_ALLOW_HOSTS: hub.allowHosts.join(','),
})

const write = (manifest: Readonly<Record<string, unknown>>): string => {
  const path = join(home, 'manifest.yaml')
  const models_root = join(home, 'models')
  writeFileSync(path, JSON.stringify({ version: 1, name: 'video', models_root, ...manifest }))
  return path
}

/** `agentctl plan --local` on a laptop with this token in its environment. */
const planOnLaptop = async (
  manifest: Readonly<Record<string, unknown>>,
  environment: Readonly<Record<string, string>> = { HF_TOKEN: GOOD_TOKEN },
) => {
  const path = write(manifest)
  const ended = await runAgentctl(['plan', '--local', '--json', path], {
    env: { ...world(), ...environment },
  })
  return { code: ended.code, plan: JSON.parse(ended.stdout) as PlanRecord }
}

const told = (problems: readonly Problem[]): string[] =>
  problems.map(({ severity, code, subject }) => `${severity} ${code} ${subject}`)

const file = (name: string, ...from: string[]) => ({ to: name, from })

test('incident A1: a laptop without the token learns it before it rents, with the secret and the files that need it', async () => {
  const manifest = {
    secrets: { required: ['HF_TOKEN'] },
    downloads: [
      file('ltx.safetensors', 'hf://o/gated@main/ltx.safetensors'),
      file('gemma.safetensors', 'hf://o/gated@main/gemma.safetensors'),
      file('first.safetensors', 'hf://o/models@main/first.safetensors'),
    ],
  }
  const without = await planOnLaptop(manifest, {})
  expect(without.code).toBe(3)
  expect(without.plan.problems).toMatchObject([
    {
      code: 'secret_missing',
      subject: 'HF_TOKEN',
      subjects: ['ltx.safetensors', 'gemma.safetensors'],
      at: { line: 1 },
    },
  ])
  const rejected = await planOnLaptop(manifest, { HUGGINGFACE_HUB_TOKEN: 'hf_notATokenOfAnybody' })
  expect(rejected.code).toBe(3)
  expect(rejected.plan.problems).toMatchObject([
    { code: 'bad_token', subject: 'HF_TOKEN', subjects: ['ltx.safetensors', 'gemma.safetensors'] },
  ])
  expect((await planOnLaptop(manifest)).code).toBe(0)
})

test('incident A1: a box tells at its start and with each run which secrets it received, by name alone', async () => {
  const named = { secrets: { required: ['HF_TOKEN'], optional: ['NOT_GIVEN'] } }
  expect((await agent.agentctl(['apply', write(named)])).code).toBe(0)
  const { stdout } = await agent.agentctl(['events', '--json'])
  const { events } = JSON.parse(stdout) as { events: EventRecord[] }
  const received = events.filter(({ type }) => type === 'secrets.received').map(({ data }) => data)
  expect(received).toEqual([{ names: ['HF_TOKEN'] }, { names: ['HF_TOKEN'], missing: ['NOT_GIVEN'] }])
  expect(stdout).not.toContain(STRANGER_TOKEN)
})

test('incident A3: every address is asked, and all that is wrong is told at once, each as what it is', async () => {
  const manifest = {
    secrets: { required: ['HF_TOKEN'] },
    downloads: [
      file('a.safetensors', 'hf://o/models@main/renamed.safetensors'),
      file('b.safetensors', 'hf://o/nothing@main/b.safetensors'),
      file('c.safetensors', 'hf://o/models@v9/first.safetensors'),
      file('d.safetensors', 'hf://o/gated@main/ltx.safetensors'),
      file('e.safetensors', `${hub.mirrorUrl}/nowhere.safetensors`),
      file('f.safetensors', 'hf://o/models@main/first.safetensors'),
    ],
  }
  const { code, plan } = await planOnLaptop(manifest, { HF_TOKEN: STRANGER_TOKEN })
  expect(code).toBe(3)
  expect(told(plan.problems)).toEqual([
    'error source_not_found a.safetensors',
    'error repository_not_found b.safetensors',
    'error revision_not_found c.safetensors',
    'error gated d.safetensors',
    'error source_not_found e.safetensors',
  ])
  const onTheBox = await agent.agentctl(['plan', '--json', write(manifest)])
  expect(onTheBox.code).toBe(3)
  expect(told((JSON.parse(onTheBox.stdout) as PlanRecord).problems)).toEqual(told(plan.problems))
})

test('incident A3: the model list of the failed attempts, imported, ends in a plan that names each broken address', async () => {
  const hubs = 'https://huggingface.co'
  const list = `VIDEO_MODELS=(
    "${hubs}/FX-FeiHou/wan2.2-Remix/resolve/main/wan2.2_remix_fp8.safetensors|wan2.2_remix_fp8.safetensors"
    "${hubs}/o/models/resolve/main/wan2.2_t2v_14B_fp8.safetensors|wan2.2_t2v_14B_fp8.safetensors"
    "${hubs}/o/gated/resolve/main/gemma.safetensors|${hubs}/o/nothing/resolve/main/gemma.safetensors|gemma.safetensors"
    "${hubs}/o/models/resolve/main/gone.safetensors|${hubs}/o/models/resolve/main/first.safetensors|first.safetensors"
)
`
  const script = join(home, 'provision-video-only.sh')
  writeFileSync(script, list)
  const imported = await runAgentctl(['manifest', 'import', script], { env: {} })
  expect(imported).toMatchObject({ code: 0, stderr: '' })
  const path = join(home, 'imported.yaml')
  writeFileSync(path, imported.stdout)
  const env = { ...world(), HF_TOKEN: STRANGER_TOKEN }
  const ended = await runAgentctl(['plan', '--local', path], { env })
  expect(ended.code).toBe(3)
  for (const address of [
    'hf://FX-FeiHou/wan2.2-Remix@main/wan2.2_remix_fp8.safetensors: FX-FeiHou/wan2.2-Remix does not exist',
    'hf://o/models@main/wan2.2_t2v_14B_fp8.safetensors: o/models@main has no file wan2.2_t2v_14B_fp8.safetensors',
    'hf://o/gated@main/gemma.safetensors: o/gated is gated',
    'hf://o/nothing@main/gemma.safetensors: o/nothing does not exist',
    'hf://o/models@main/gone.safetensors: o/models@main has no file gone.safetensors',
  ])
    expect(ended.stderr).toContain(address)
  expect(ended.stderr).toContain('the plan has 4 errors')
})

test('incident A4: a mirror is taken when the first address fails, and one that holds another file is found out', async () => {
  const gated = 'hf://o/gated@main/ltx.safetensors'
  const { plan } = await planOnLaptop(
    {
      downloads: [
        file('proven.safetensors', gated, 'hf://o/copy@main/ltx-copy.safetensors'),
        file(
          'differs.safetensors',
          'hf://o/models@main/first.safetensors',
          'hf://o/copy@main/other.safetensors',
        ),
      ],
    },
    { HF_TOKEN: STRANGER_TOKEN },
  )
  expect(told(plan.problems)).toEqual([
    'error mirror_differs differs.safetensors',
    'warning gated proven.safetensors',
    'warning mirror_unproven proven.safetensors',
  ])
  // The run says why it did not take the first, and the box remembers where the bytes came from.
  const mirror = 'hf://o/copy@main/ltx-copy.safetensors'
  const manifest = write({ downloads: [file('proven.safetensors', gated, mirror)] })
  const applied = await agent.agentctl(['apply', manifest, '--json'])
  const { run } = JSON.parse(applied.stdout) as { run: RunRecord }
  expect(run.state).toBe('ready')
  expect(told(run.problems)).toContain('warning gated proven.safetensors')
  const { models } = JSON.parse((await agent.agentctl(['models', '--json'])).stdout) as { models: ModelRow[] }
  expect(models.find(({ path }) => path.endsWith('/proven.safetensors'))).toMatchObject({ source: mirror })
})

test('incident A5: what may be missing is named one by one, and the box says that it is degraded', async () => {
  const manifest = write({
    downloads: [
      file('first.safetensors', 'hf://o/models@main/first.safetensors'),
      file('gone.safetensors', 'hf://o/models@main/gone.safetensors'),
      file('lost.safetensors', 'hf://o/models@main/lost.safetensors'),
    ],
  })
  const refused = await agent.agentctl(['apply', manifest, '--allow-missing', 'gone.safetensors', '--json'])
  expect(refused.code).toBe(3)
  expect(existsSync(join(home, 'models', 'first.safetensors'))).toBe(false)

  const args = ['apply', manifest, '--allow-missing', 'gone.safetensors', 'lost.safetensors']
  const applied = await agent.agentctl([...args, '--json'])
  expect(applied.code).toBe(0)
  const { run } = JSON.parse(applied.stdout) as { run: RunRecord }
  expect(run.state).toBe('degraded')
  expect(told(run.problems)).toEqual([
    'warning source_not_found gone.safetensors',
    'warning source_not_found lost.safetensors',
  ])
  expect(existsSync(join(home, 'models', 'first.safetensors'))).toBe(true)
  const status = async () => JSON.parse((await agent.agentctl(['status', '--json'])).stdout) as StatusRecord
  expect(await status()).toMatchObject({ healthy: false, run: { state: 'degraded' } })

  // The box was told so once; a restart is not a new decision.
  await agent.kill('SIGTERM')
  agent = await startAgent({ home, env: { ...world(), HF_TOKEN: STRANGER_TOKEN } })
  await expect.poll(async () => (await status()).run?.state, { timeout: 30_000 }).toBe('degraded')
  const unknown = await agent.agentctl(['apply', manifest, '--allow-missing', 'gone'])
  expect(unknown.code).toBe(2)
  expect(unknown.stderr).toContain('nothing in the manifest is called gone')
})

const cosmos = (change: Readonly<Record<string, unknown>> = {}) => ({
  secrets: { required: ['HF_TOKEN'] },
  processes: {
    enrich: {
      kind: 'cosmos',
      working_dir: '/workspace/cosmos-transfer2.5',
      command: ['python', 'examples/inference.py', '-i', 'kitchen.json', '-o', 'out'],
      ...change,
    },
  },
})

test('incident B7: the guardrail models are asked for only where guardrails are on', async () => {
  const stranger = { HF_TOKEN: STRANGER_TOKEN }
  const repositories = ({ plan }: { readonly plan: PlanRecord }) =>
    plan.problems.map(({ message }) => /Cosmos-\w+/.exec(message)?.[0])
  expect(repositories(await planOnLaptop(cosmos(), stranger))).toEqual([
    'Cosmos-Transfer2',
    'Cosmos-Predict2',
  ])
  expect(repositories(await planOnLaptop(cosmos({ guardrails: true }), stranger))).toEqual([
    'Cosmos-Transfer2',
    'Cosmos-Predict2',
    'Cosmos-Guardrail1',
  ])
})

test('incident B8: what Cosmos fetches by itself is checked before it starts, and the plan prints the line that fetches it', async () => {
  const tokenizer = 'hf://nvidia/Cosmos-Predict2.5-2B@main/tokenizer.pth'
  const line =
    '- {snapshot: "hf://nvidia/Cosmos-Predict2.5-2B@main", include: ["tokenizer.pth"], allow_pickle: true}'
  const gated = await planOnLaptop(cosmos(), { HF_TOKEN: STRANGER_TOKEN })
  expect(gated.code).toBe(3)
  const problem = gated.plan.problems.find(({ subject }) => subject === tokenizer)
  expect(problem).toMatchObject({ code: 'gated', severity: 'error' })
  expect(problem?.message).toContain('the process enrich fetches it for its tokenizer')
  expect(problem?.hint).toContain(line)
  const accepted = await planOnLaptop({ ...cosmos(), requires: { access: [tokenizer] } })
  expect(accepted.plan.problems).toEqual([])
  expect(accepted.plan.changes.later).toContainEqual({ source: tokenizer, download: line })
})

test('incident A8: a half-done box goes on from what is there, and reads no verified byte twice from the hub', async () => {
  const names = ['first.safetensors', 'second.safetensors']
  const downloads = names.map((name) => ({ to: `again/${name}`, from: [`hf://o/models@main/${name}`] }))
  // The first attempt of the incident: one file whole, one broken under its final name.
  expect((await agent.agentctl(['apply', write({ downloads: downloads.slice(0, 1) })])).code).toBe(0)
  const broken = join(home, 'models', 'again', 'second.safetensors')
  mkdirSync(dirname(broken), { recursive: true })
  writeFileSync(broken, 'half of it')
  const before = hub.sentBytes('cdn')
  const manifest = write({ downloads })
  const plan = JSON.parse((await agent.agentctl(['plan', manifest, '--json'])).stdout) as PlanRecord
  expect(plan.changes.downloads.map(({ to, action }) => [to, action])).toEqual([
    ['again/first.safetensors', 'keep'],
    ['again/second.safetensors', 'fetch'],
  ])
  const applied = await agent.agentctl(['apply', manifest])
  expect(applied.code).toBe(0)
  const size = hub.file('second.safetensors').content.sizeBytes
  expect(hub.sentBytes('cdn') - before).toBeLessThan(size * 1.5)
  expect(readFileSync(broken)).toHaveLength(size)
})
