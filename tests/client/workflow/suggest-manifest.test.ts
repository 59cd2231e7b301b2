import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { suggestManifest } from '../../../client/workflow/suggest-manifest.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'
import { readWorkflow } from '../../../shared/workflows/read-workflow.ts'
import { workflowNeeds } from '../../../shared/workflows/workflow-needs.ts'
import { runAgentctl } from '../../support/agentctl.ts'

const COMMIT = 'a'.repeat(40)
const HASH = 'b'.repeat(64)

const PACKS: Readonly<Record<string, string>> = {
  'comfyui-depth': 'https://github.com/someone/comfyui-depth',
  'comfyui-old': 'https://github.com/someone/comfyui-old/',
}

/** A registry and repositories that know a few things. */
const suggest = (workflow: unknown) =>
  suggestManifest(workflowNeeds(readWorkflow(JSON.stringify(workflow), 'My Video.json')), {
    file: '/home/me/My Video.json',
    registry: {
      pack: (id) => Promise.resolve(PACKS[id] ? { id, repository: PACKS[id] } : undefined),
      packOfNode: (name) =>
        Promise.resolve(
          name === 'Upscaler' ? { id: 'up', repository: 'https://github.com/someone/up' } : undefined,
        ),
    },
    commitOf: (git, ref) =>
      Promise.resolve(ref === 'HEAD' || (git.endsWith('depth') && ref === 'v1.2.0') ? COMMIT : undefined),
  })

const model = (name: string, more: object = {}) => ({
  name,
  directory: 'loras',
  url: `https://huggingface.co/a/b/resolve/main/${name}?download=true`,
  ...more,
})

const editor = {
  nodes: [
    { type: 'KSampler', properties: { cnr_id: 'comfy-core', ver: '0.3.64' } },
    {
      type: 'LoraLoader',
      widgets_values: ['style.safetensors'],
      properties: { models: [model('style.safetensors', { hash: HASH.toUpperCase(), hash_type: 'SHA256' })] },
    },
    { type: 'LoraLoader', widgets_values: ['run.pt'], properties: { models: [model('run.pt')] } },
    { type: 'VAELoader', widgets_values: ['wan_vae.safetensors'] },
    { type: 'sub' },
    { type: 'workflow>group' },
    { type: 'Muted', mode: 2, properties: { cnr_id: 'never' } },
  ],
  definitions: {
    subgraphs: [
      { id: 'sub', nodes: [{ type: 'DepthNode', properties: { cnr_id: 'comfyui-depth', ver: '1.2.0' } }] },
    ],
  },
  extra: {
    groupNodes: {
      group: {
        nodes: [
          { type: 'Pinned', properties: { aux_id: 'somebody/Pinned-Pack', ver: COMMIT } },
          { type: 'Old', properties: { cnr_id: 'comfyui-old', ver: '0.9.0' } },
          { type: 'Gone', properties: { cnr_id: 'comfyui-gone' } },
        ],
      },
    },
  },
}

test('a manifest is written of what a workflow names: models with their hash, packs at the commit of their version', async () => {
  const { text } = await suggest(editor)
  const { manifest } = parseManifest(text, { file: 'suggested.yaml' })
  expect(manifest).toMatchObject({
    name: 'my-video',
    downloads: [
      {
        to: 'loras/style.safetensors',
        from: ['hf://a/b@main/style.safetensors'],
        sha256: HASH,
      },
    ],
    custom_nodes: [
      { git: 'https://github.com/someone/comfyui-depth', ref: COMMIT },
      { git: 'https://github.com/somebody/Pinned-Pack', ref: COMMIT },
      { git: 'https://github.com/someone/comfyui-old', ref: COMMIT },
    ],
    processes: { comfyui: { workflows: ['/workspace/workflows/My Video.json'] } },
  })
  expect(manifest.downloads).toHaveLength(1)
})

test('what could not be carried over is said, in the manifest too', async () => {
  const { text, missing } = await suggest(editor)
  expect(missing).toEqual([
    'loras/run.pt for LoraLoader: it can run code when it is loaded; add https://huggingface.co/a/b/resolve/main/run.pt?download=true with allow_pickle if you trust it',
    'vae/wan_vae.safetensors for VAELoader: the workflow names no address',
    'version 0.9.0 of https://github.com/someone/comfyui-old: it has no such tag, so its newest commit is taken',
    "the pack comfyui-gone: ComfyUI's registry does not know it, or does not answer",
  ])
  for (const one of missing) expect(text).toContain(`#   ${one}\n`)
})

test('the API’s format names no packs: the registry is asked for every class that is not ComfyUI’s own', async () => {
  const { text, missing } = await suggest({
    1: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'base.safetensors' } },
    2: { class_type: 'Upscaler', inputs: {} },
    3: { class_type: 'NodeOfNobody\nname: evil', inputs: {} },
  })
  expect(parseManifest(text, { file: 'suggested.yaml' }).manifest).toMatchObject({
    name: 'my-video',
    downloads: [],
    custom_nodes: [{ git: 'https://github.com/someone/up', ref: COMMIT }],
  })
  expect(missing).toEqual([
    'checkpoints/base.safetensors for CheckpointLoaderSimple: the workflow names no address',
    'the node NodeOfNobody\nname: evil: the workflow does not say which pack brings it',
  ])
})

test('workflow manifest asks the registry that the environment names, and needs no box', async () => {
  const asked: string[] = []
  const registry = createServer((request, response) => {
    asked.push(request.url ?? '')
    response.statusCode = 404
    response.end('{}')
  })
  await new Promise<void>((resolve) => registry.listen(0, '127.0.0.1', resolve))
  const folder = mkdtempSync(join(tmpdir(), 'ga-'))
  onTestFinished(() => {
    registry.close()
    rmSync(folder, { recursive: true })
  })
  const file = join(folder, 'wan.json')
  writeFileSync(
    file,
    JSON.stringify({ nodes: [{ type: 'DepthNode', properties: { cnr_id: 'ComfyUI-Depth' } }] }),
  )
  const env = {
    HOME: folder,
    COMFY_REGISTRY_ENDPOINT: `http://127.0.0.1:${(registry.address() as AddressInfo).port}`,
  }
  const { code, stdout, stderr } = await runAgentctl(['workflow', 'manifest', file], { env })
  expect(code).toBe(0)
  expect(asked).toEqual(['/nodes/comfyui-depth'])
  expect(parseManifest(stdout, { file: 'suggested.yaml' }).manifest.name).toBe('wan')
  expect(stderr).toContain('not carried over: the pack ComfyUI-Depth')
})
