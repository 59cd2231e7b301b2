import { createHash } from 'node:crypto'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { PlanRecord, Problem } from '../../shared/contract/records.ts'
import { makeRepository, serveRepositories } from '../agent/python/git-server.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { STRANGER_TOKEN } from '../support/hub/hub-model.ts'
import { startHub } from '../support/hub/hub.ts'
import type { Hub } from '../support/hub/hub.ts'

/*
 * The plan is the product's promise: every reason why a run would fail, in one pass. Thirty mistakes are planted in
 * one manifest; each is one problem, and there are no others.
 */

let home: string
let hub: Hub
let git: Awaited<ReturnType<typeof serveRepositories>>
let agent: AgentProcess
let listener: Server
let commit: string
beforeAll(async () => {
  home = makeHome()
  hub = await startHub({
    files: [
      { repo: 'o/r', path: 'a.safetensors' },
      { repo: 'o/r', path: 'pickle.bin' },
      { repo: 'o/copy', path: 'other.safetensors', sizeBytes: 4096 },
      { repo: 'o/gated', path: 'g.safetensors', gated: true },
      { repo: 'o/gated', path: 'h.safetensors', gated: true },
      { repo: 'o/lazy', path: 'tokenizer.json', gated: true },
      { repo: 'o/closed', path: 'c.safetensors', gated: true, civitaiVersion: 7 },
    ],
  })
  const repositories = join(home, 'repositories')
  commit = makeRepository(repositories, 'pack.git').commit('node.py', 'pass\n')
  git = await serveRepositories(repositories)
  listener = createServer()
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
  agent = await startAgent({
    home,
    env: {
      HF_ENDPOINT: hub.url,
      CIVITAI_ENDPOINT: hub.civitaiUrl,
      AGENT_ALLOW_HOSTS: [...hub.allowHosts, git.host].join(','),
      HF_TOKEN: STRANGER_TOKEN,
    },
  })
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await removeHome(home)
  await Promise.all([hub.close(), git.close(), new Promise((resolve) => listener.close(resolve))])
})

const fine = (to: string) => ({ to, from: ['hf://o/r@main/a.safetensors'] })

const mistaken = () => {
  const models = join(home, 'models')
  mkdirSync(join(models, 'folder.safetensors'), { recursive: true })
  symlinkSync('/etc/hostname', join(models, 'link.safetensors'))
  writeFileSync(join(home, 'a-file'), 'not a folder')
  const { port } = listener.address() as AddressInfo
  const other = 'f'.repeat(64)
  return {
    version: 1,
    name: 'mistakes',
    models_root: models,
    secrets: { required: ['HF_TOKEN', 'NOT_THERE'] },
    requires: {
      disk_free: '900TB',
      gpu: { min_vram: '999TB' },
      access: ['hf://o/lazy@main/tokenizer.json'],
    },
    downloads: [
      { to: 'no-file.safetensors', from: ['hf://o/r@main/nothing.safetensors'] },
      { to: 'no-repository.safetensors', from: ['hf://o/nothing@main/a.safetensors'] },
      { to: 'no-revision.safetensors', from: ['hf://o/r@v9/a.safetensors'] },
      // One cause: the terms of one repository.
      { to: 'gated.safetensors', from: ['hf://o/gated@main/g.safetensors'] },
      { to: 'gated-too.safetensors', from: ['hf://o/gated@main/h.safetensors'] },
      { to: 'closed.safetensors', from: ['civitai://versions/7'] },
      { to: 'no-version.safetensors', from: ['civitai://versions/8'] },
      { to: 'dead.safetensors', from: [`${hub.mirrorUrl}/dead.safetensors`] },
      { to: 'private.safetensors', from: ['https://10.0.0.1/private.safetensors'] },
      { to: 'plain.safetensors', from: ['http://example.com/plain.safetensors'] },
      { ...fine('wrong-hash.safetensors'), sha256: other },
      { ...fine('wrong-size.safetensors'), size: 12 },
      {
        to: 'other-mirror.safetensors',
        from: ['hf://o/r@main/a.safetensors', 'hf://o/copy@main/other.safetensors'],
      },
      { to: 'pickle.bin', from: ['hf://o/r@main/pickle.bin'] },
      fine('folder.safetensors'),
      fine('link.safetensors'),
      { snapshot: 'hf://o/r@main', include: ['*.onnx'] },
    ],
    python: { interpreter: join(home, 'no-python') },
    custom_nodes: [
      { git: `${git.url}/nowhere.git`, ref: commit },
      { git: `${git.url}/pack.git`, ref: 'no-branch' },
    ],
    processes: {
      no_folder: { kind: 'command', working_dir: join(home, 'nowhere'), command: ['sleep', '1'] },
      no_program: { kind: 'command', command: ['/no/such/program'] },
      no_script: { kind: 'command', working_dir: home, command: ['sh', 'no-such-script.sh'] },
      no_user: { kind: 'command', command: ['sleep', '1'], user: 'nobody-here' },
      busy_port: { kind: 'command', command: ['sleep', '1'], ready: { port } },
      open: { kind: 'comfyui', working_dir: home, port: 1, args: ['--listen', '0.0.0.0'] },
    },
    sync: [{ name: 'outputs', path: join(home, 'outputs'), to: join(home, 'a-file', 'inside') }],
  }
}

const MISTAKES = [
  'secret_missing NOT_THERE',
  'source_not_found no-file.safetensors',
  'repository_not_found no-repository.safetensors',
  'revision_not_found no-revision.safetensors',
  'gated gated.safetensors',
  'login_required closed.safetensors',
  'source_not_found no-version.safetensors',
  'source_not_found dead.safetensors',
  'forbidden_address private.safetensors',
  'forbidden_address plain.safetensors',
  'hash_mismatch wrong-hash.safetensors',
  'size_mismatch wrong-size.safetensors',
  'mirror_differs other-mirror.safetensors',
  'pickle_refused pickle.bin',
  'destination_invalid folder.safetensors',
  'unsafe_path link.safetensors',
  'source_not_found hf://o/r@main',
  'gated hf://o/lazy@main/tokenizer.json',
  'repository_not_found nowhere',
  'revision_not_found pack',
  'no_interpreter python',
  'working_dir_missing no_folder',
  'program_missing no_program',
  'program_missing no_script',
  'spawn_failed no_user',
  'port_in_use busy_port',
  'invalid_manifest open',
  'gpu_missing requires.gpu',
  'disk_too_small requires.disk_free',
  'sync_config outputs',
]

test('a manifest with planted mistakes yields exactly those problems in one run, and the plan changes nothing', async () => {
  const path = join(home, 'mistakes.yaml')
  writeFileSync(path, JSON.stringify(mistaken(), undefined, 1))
  // The last that an agent makes when it starts.
  while (!existsSync(join(home, 'state/jobs'))) await delay(20)
  const before = fingerprint(home)
  const ended = await agent.agentctl(['plan', path, '--json'])
  expect(fingerprint(home)).toEqual(before)
  expect(ended.code).toBe(3)
  const { problems } = JSON.parse(ended.stdout) as PlanRecord
  const found = problems
    .filter(({ severity }) => severity === 'error')
    // A machine with a card is told that it is too small.
    .map(({ code, subject }) =>
      `${code} ${subject}`.replace(/^gpu_too_small requires.gpu.min_vram/, 'gpu_missing requires.gpu'),
    )
  expect(found.toSorted()).toEqual(MISTAKES.toSorted())
  expect(problems.find(({ subject }) => subject === 'gated.safetensors')?.subjects).toEqual([
    'gated-too.safetensors',
  ])
  expect(problems.filter(({ at }) => at === undefined).map(({ subject }) => subject)).toEqual([])
})

test('mistakes of the manifest itself do not hide those of its sources: one run tells both, each with its line', async () => {
  const path = join(home, 'both.yaml')
  writeFileSync(
    path,
    `version: 1
name: both
models_root: /models
downlods: []
downloads:
  - {to: a.safetensors, form: ["hf://o/r@main/a.safetensors"]}
  - {to: b.safetensors, from: ["hf://o/r@main/nothing.safetensors"], optinal: true}
  - {to: c.safetensors, from: ["hf://o/nothing@main/c.safetensors"]}
processes:
  web: {kind: comand, command: [sleep, "1"]}
  other: {kind: command, command: [sleep, "1"], depends_on: [wbe]}
`,
  )
  const env = { HF_ENDPOINT: hub.url, AGENT_ALLOW_HOSTS: hub.allowHosts.join(','), HF_TOKEN: STRANGER_TOKEN }
  const local = await runAgentctl(['plan', '--local', '--json', path], { env })
  const onTheBox = await agent.agentctl(['plan', '--json', path])
  for (const ended of [local, onTheBox]) {
    expect(ended.code).toBe(3)
    const { error } = JSON.parse(ended.stdout) as { error: { code: string; problems: Problem[] } }
    expect(error.code).toBe('invalid_manifest')
    expect(error.problems.map(({ at, code }) => `${at?.line ?? 0} ${code}`)).toEqual([
      '4 invalid_manifest',
      '6 invalid_manifest',
      '7 source_not_found',
      '7 invalid_manifest',
      '8 repository_not_found',
      '10 invalid_manifest',
      '11 invalid_manifest',
    ])
  }
})

/** Every path under a folder with its size, its mode and what is in it; not the agent's own journal. */
const fingerprint = (folder: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => !/^state\/state\.db/.test(name))
      .toSorted()
      .map((name) => {
        const stats = lstatSync(join(folder, name))
        const content = stats.isFile()
          ? createHash('sha256')
              .update(readFileSync(join(folder, name)))
              .digest('hex')
          : stats.isSymbolicLink()
            ? readlinkSync(join(folder, name))
            : ''
        return [name, `${stats.mode.toString(8)} ${stats.isFile() ? stats.mtimeMs : ''} ${content}`]
      }),
  )
