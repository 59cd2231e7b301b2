import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { carryOut } from '../../agent/apply/carry-out.ts'
import { makePlan } from '../../agent/apply/make-plan.ts'
import { readManifest } from '../../agent/apply/read-manifest.ts'
import { composeRooms } from '../../agent/compose-rooms.ts'
import { readConfig } from '../../agent/config.ts'
import { systemClock } from '../../agent/platform/clock.ts'
import { superviseServices } from '../../agent/platform/supervise.ts'
import { AgentError } from '../../shared/contract/errors.ts'
import { makeRepository, serveRepositories } from '../agent/python/git-server.ts'
import { makeHome, removeHome } from '../support/agent-process.ts'
import { createChance } from '../support/chance.ts'
import { freePort, makeComfyUI, nodeModule } from '../support/comfyui/stand-in.ts'
import type { Fault } from '../support/hub/faults.ts'
import type { HubFile } from '../support/hub/hub-model.ts'
import { STRANGER_TOKEN } from '../support/hub/hub-model.ts'
import { startHub } from '../support/hub/hub.ts'
import type { Hub } from '../support/hub/hub.ts'

/*
 * The plan's promise, held against whole runs of an agent: manifests are made up by chance of parts that are well, parts
 * that are broken and hubs that falter. A green plan comes up; what a red one refuses is carried out all the same, and
 * does not.
 */

const SEEDS = 24
const MIB = 2 ** 20

const sometimes = (does: Fault['does'], times: number): Fault[] => [{ at: 'cdn', times, does }]
const FILES: readonly HubFile[] = [
  { repo: 'o/well', path: 'well.safetensors', sizeBytes: MIB, seed: 'one' },
  { repo: 'o/copy', path: 'copy.safetensors', sizeBytes: MIB, seed: 'one' },
  { repo: 'o/gated', path: 'gated.safetensors', sizeBytes: MIB, seed: 'one', gated: true },
  // It breaks the connection again and again, and is never the same for long.
  {
    ...{ repo: 'o/drops', path: 'drops.safetensors', sizeBytes: MIB, seed: 'drops' },
    faults: sometimes({ kind: 'drop', afterBytes: 200_000 }, 60),
  },
  {
    ...{ repo: 'o/busy', path: 'busy.safetensors', sizeBytes: MIB, seed: 'busy' },
    faults: sometimes({ kind: 'answer', status: 503, headers: { 'retry-after': '0' } }, 1),
  },
  {
    ...{ repo: 'o/down', path: 'down.safetensors', sizeBytes: MIB, seed: 'one' },
    faults: [{ at: 'hub', does: { kind: 'answer', status: 404 } }],
  },
]

let home: string
let hub: Hub
let git: Awaited<ReturnType<typeof serveRepositories>>
let commit: string
let agent: Awaited<ReturnType<typeof composeRooms>>
let running: Promise<void>
const shutdown = new AbortController()
beforeAll(async () => {
  home = makeHome()
  hub = await startHub({ files: FILES })
  commit = makeRepository(join(home, 'repositories'), 'depth.git').commit(
    '__init__.py',
    nodeModule('DepthAnything_V2'),
  )
  git = await serveRepositories(join(home, 'repositories'))
  const invocation = readConfig(['--home', home], {
    PATH: process.env['PATH'],
    HOME: home,
    HF_ENDPOINT: hub.url,
    CIVITAI_ENDPOINT: hub.civitaiUrl,
    AGENT_ALLOW_HOSTS: [...hub.allowHosts, git.host].join(','),
    HF_TOKEN: STRANGER_TOKEN,
  })
  if (invocation.command !== 'serve') throw new Error('it does not serve')
  agent = await composeRooms(invocation.config)
  const { processes, sync, log, adopt } = agent
  running = superviseServices([...processes.services, sync.service], {
    clock: systemClock,
    log,
    signal: shutdown.signal,
  })
  await adopt({ signal: shutdown.signal })
})
afterAll(async () => {
  shutdown.abort(new AgentError('interrupted', 'the test is over'))
  await running
  await agent.close()
  await Promise.all([hub.close(), git.close()])
  await removeHome(home)
})

/** Parts of a manifest, each with what breaks it: the plan has to tell the one from the other. */
const makeManifest = async (seed: number) => {
  const { pick, isLikely } = createChance(seed)
  const folder = join(home, `seed-${seed}`)
  mkdirSync(join(folder, 'out'), { recursive: true })
  writeFileSync(join(folder, 'a-file'), '')
  writeFileSync(join(folder, 'out', 'model.txt'), 'weights')
  // Few mistakes at a time, so that each is the only reason often enough.
  const isBroken = (): boolean => isLikely(0.12)
  const hf = (repo: string, path = `${repo}.safetensors`) => `hf://o/${repo}@main/${path}`
  const { sha256 } = hub.file('well.safetensors').content

  const download = (to: string) =>
    isBroken()
      ? pick<Readonly<Record<string, unknown>>>([
          { to, from: [hf('well', 'nothing.safetensors')] },
          { to, from: [hf('nobody')] },
          { to, from: [hf('gated')] },
          { to, from: [hf('down')] },
          { to, from: [hf('down'), hf('gated')] },
          { to, from: [`${hub.mirrorUrl}/nothing.safetensors`] },
          { to, from: [hf('well')], sha256: 'f'.repeat(64) },
          { to, from: [hf('well')], size: 12 },
          { to: to.replace('safetensors', 'bin'), from: [hf('well')] },
          { to: 'seed-file/below.safetensors', from: [hf('well')] },
        ])
      : pick<Readonly<Record<string, unknown>>>([
          { to, from: [hf('well')] },
          { to, from: [hf('drops')] },
          { to, from: [hf('busy')] },
          { to, from: [hf('gated'), hf('copy')], sha256 },
          { to, from: [hf('down'), hf('well')], sha256 },
          { to, from: [hf('well', 'nothing.safetensors')], optional: true },
        ])

  const job = (name: string) =>
    isBroken()
      ? pick<Readonly<Record<string, unknown>>>([
          { command: ['no-such-program'] },
          { command: [join(folder, 'nothing')] },
          { command: ['sh', 'nothing.sh'] },
          { command: ['true'], working_dir: join(folder, 'nowhere') },
          { command: ['true'], user: 'nobody-here' },
          { command: ['true'], env: { LD_PRELOAD: '/tmp/other.so' } },
        ])
      : pick<Readonly<Record<string, unknown>>>([
          { command: ['true'] },
          { command: ['sh', '-c', `echo ${name}`] },
          { command: ['sleep', '600'], restart: 'always' },
          { command: ['sh', '-c', 'echo it is up; sleep 600'], ready: { log: 'is up', within: '20s' } },
        ])

  const hasComfyUI = isLikely(0.3)
  const workflow = join(folder, 'ComfyUI', 'workflow.json')
  const models = join(folder, 'ComfyUI', 'models')
  const hasNode = !isBroken()
  const hasModel = !isBroken()
  if (hasComfyUI) {
    const nodes = [
      { type: 'DepthAnything_V2', properties: { cnr_id: 'depth' } },
      { type: 'CheckpointLoaderSimple', widgets_values: ['wan.safetensors'] },
    ]
    makeComfyUI(join(folder, 'ComfyUI'), { 'workflow.json': JSON.stringify({ nodes }) })
  }
  const names = ['a.safetensors', 'b.safetensors'].slice(0, pick([0, 1, 1, 2]))
  return {
    version: 1,
    name: `seed-${seed}`,
    models_root: models,
    downloads: [
      ...names.map(download),
      ...(hasComfyUI && hasModel ? [{ to: 'checkpoints/wan.safetensors', from: [hf('well')] }] : []),
    ],
    custom_nodes:
      hasComfyUI && hasNode
        ? [{ git: `${git.url}/depth.git`, ref: isBroken() ? 'no-branch' : pick([commit, 'main']) }]
        : [],
    processes: {
      ...Object.fromEntries(
        ['first', 'second']
          .slice(0, pick([0, 1, 2]))
          .map((name) => [
            `${name}${seed}`,
            { kind: 'command', working_dir: folder, stop: { timeout: '2s' }, ...job(name) },
          ]),
      ),
      ...(hasComfyUI
        ? {
            [`comfyui${seed}`]: {
              kind: 'comfyui',
              working_dir: join(folder, 'ComfyUI'),
              port: await freePort(),
              workflows: [workflow],
              stop: { timeout: '2s' },
            },
          }
        : {}),
    },
    sync: isLikely(0.4)
      ? [
          {
            name: `out${seed}`,
            path: join(folder, 'out'),
            to: join(folder, isBroken() ? 'a-file/inside' : 'stored'),
            every: '1h',
            settle: '50ms',
          },
        ]
      : [],
  }
}

/** How a plan ends when it is carried out, whatever is wrong with it; a sync has to bring its files. */
const comeUp = async (plan: Awaited<ReturnType<typeof makePlan>>): Promise<string> => {
  const { rooms } = agent
  const { signal } = shutdown
  try {
    const outcome = await carryOut(
      { ...plan, problems: [] },
      {
        rooms,
        enter: () => undefined,
        signal,
        atBoot: false,
      },
    )
    if (outcome.state === 'failed') return `failed: ${JSON.stringify(outcome.problems)}`
    if (plan.syncs.length > 0) await rooms.sync.runNow(null, { signal })
    const late = rooms.sync.rows().flatMap(({ problem }) => problem ?? [])
    return late.length > 0 ? `failed: ${JSON.stringify(late)}` : outcome.state
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return `failed: ${error.message}`
  }
}

test('a green plan of made-up manifests comes up whole, and a red one does not', async () => {
  const seen = { green: 0, red: 0 }
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const text = JSON.stringify(await makeManifest(seed))
    const read = readManifest({ manifest: text, file: 'made-up.yaml' }, agent.rooms.secrets)
    const plan = await makePlan(read, { rooms: agent.rooms, signal: shutdown.signal })
    const errors = plan.problems.filter(({ severity }) => severity === 'error')
    const isOptionalMissing = plan.problems.some(({ code }) => code === 'source_not_found')
    const end = await comeUp(plan)
    const told = errors.map(({ code, subject, message }) => `${code} ${subject}: ${message}`)
    const story = `seed ${seed}: ${text}; told: ${told.join('; ')}; ended: ${end}`
    if (errors.length === 0) {
      seen.green += 1
      expect(end, story).toBe(isOptionalMissing && end === 'degraded' ? 'degraded' : 'ready')
    } else {
      seen.red += 1
      expect(end, story).toMatch(/^failed/)
    }
  }
  // Chance has met both, or the test says nothing.
  expect(seen.green).toBeGreaterThan(6)
  expect(seen.red).toBeGreaterThan(6)
})
