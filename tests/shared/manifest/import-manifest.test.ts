import { expect, test } from 'vitest'
import { importManifest } from '../../../shared/manifest/import/import-manifest.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'

const read = (text: string) => importManifest(text, { name: 'old', modelsRoot: '/workspace/ComfyUI/models' })
const left = (text: string) =>
  read(text).leftBehind.map(({ line, what, why }) => `${line ?? '-'} ${what}: ${why}`)
const HF = 'https://huggingface.co'

test('the arrays of a provisioning script become downloads with their fallbacks, and the rest of it is told line by line', () => {
  const script = `#!/bin/bash
apt-get install -y aria2
VIDEO_MODELS=(
    # Wan 2.1, stable
    "${HF}/Comfy-Org/Wan/resolve/main/split_files/wan.safetensors|${HF}/wangkanai/wan/resolve/main/wan.safetensors|wan.safetensors"

    '${HF}/Comfy-Org/ltx-2/resolve/main/ltx.safetensors?download=true'
)
LORA_MODELS=("https://civitai.com/api/download/models/12345?token=abcdefgh" "https://example.com/x/style.safetensors")
NODES=(https://github.com/a/one https://github.com/b/two.git)
PIP_PACKAGES=("natsort")
OTHER=("https://example.com/\${NAME}.safetensors")
for model in "\${VIDEO_MODELS[@]}"; do download "$model"; done
`
  const { manifest, text, leftBehind } = read(script)
  expect(parseManifest(text, { file: 'old.yaml' }).manifest.name).toBe('old')
  expect(manifest).toMatchObject({
    models_root: '/workspace/ComfyUI/models',
    downloads: [
      {
        to: 'diffusion_models/wan.safetensors',
        from: [
          'hf://Comfy-Org/Wan@main/split_files/wan.safetensors',
          'hf://wangkanai/wan@main/wan.safetensors',
        ],
      },
      { to: 'diffusion_models/ltx.safetensors', from: ['hf://Comfy-Org/ltx-2@main/ltx.safetensors'] },
      { to: 'loras/style.safetensors', from: ['https://example.com/x/style.safetensors'] },
    ],
    custom_nodes: [
      { git: 'https://github.com/a/one', ref: 'main' },
      { git: 'https://github.com/b/two', ref: 'main' },
    ],
    processes: { comfyui: { kind: 'comfyui', working_dir: '/workspace/ComfyUI' } },
  })
  expect(leftBehind.map(({ line }) => line)).toEqual([2, 9, 10, 10, 11, 12])
  expect(JSON.stringify(leftBehind)).not.toContain('abcdefgh')
})

test('a plain list is read with CRLF, comments and one address a line; a second line for a file adds a source', () => {
  const list = `\ufeff# models\r\n${HF}/a/b/resolve/main/loras/x.safetensors\r\nhttps://example.com/x.safetensors|loras/x.safetensors\r\n${HF}/a/b/resolve/main/y.ckpt|y.ckpt`
  expect(read(list).manifest['downloads']).toEqual([
    {
      to: 'loras/x.safetensors',
      from: ['hf://a/b@main/loras/x.safetensors', 'https://example.com/x.safetensors'],
    },
    { to: 'y.ckpt', from: ['hf://a/b@main/y.ckpt'] },
  ])
  expect(left(list)).toEqual([
    expect.stringContaining(
      '4 https://huggingface.co/a/b/resolve/main/y.ckpt|y.ckpt: its folder under models is not known',
    ),
    expect.stringContaining('- y.ckpt: this format can run code'),
  ])
})

test('a provisioning manifest of the base image is carried over, and what it runs in a shell is told', () => {
  const yaml = `
version: 1
auth: {huggingface: {token_env: HF_TOKEN}}
apt_packages: [ffmpeg]
downloads:
  - {url: "${HF}/o/m/resolve/main/w.safetensors", dest: "\${WORKSPACE:-/workspace}/ComfyUI/models/vae/w.safetensors"}
  - {url: "${HF}/meta/llama"}
  - {url: "https://civitai.com/api/download/models/5", dest: /workspace/loras/}
  - {url: "https://example.com/f.bin", dest: /data/}
conditional_downloads:
  - when: hf_token_valid
    downloads: [{url: "${HF}/o/gated/resolve/main/g.safetensors", dest: /data/g.safetensors}]
    else_downloads: [{url: "${HF}/o/open/resolve/main/g.safetensors", dest: /data/g.safetensors}]
git_repos:
  - {url: https://github.com/a/node, dest: /workspace/ComfyUI/custom_nodes/node, ref: v1, post_commands: [make]}
  - {url: https://github.com/a/app, dest: /workspace/app}
pip_packages:
  - {packages: [natsort==8.4.0], args: "--pre"}
  - {venv: /venv/other, packages: [torch]}
  - piq==0.8.0
services:
  - {name: web, workdir: /workspace/app, command: "python app.py --port 7860", environment: {A: b}}
  - {name: shell, command: "a | b"}
`
  const { manifest, text } = read(yaml)
  expect(() => parseManifest(text, { file: 'old.yaml' })).not.toThrow()
  expect(manifest).toMatchObject({
    secrets: { optional: ['HF_TOKEN'] },
    downloads: [
      { to: 'vae/w.safetensors', from: ['hf://o/m@main/w.safetensors'] },
      { to: '/data/f.bin', from: ['https://example.com/f.bin'] },
      { to: '/data/g.safetensors', from: ['hf://o/gated@main/g.safetensors'] },
      { snapshot: 'hf://meta/llama@main' },
    ],
    custom_nodes: [{ git: 'https://github.com/a/node', ref: 'v1' }],
    python: {
      interpreter: '/venv/main/bin/python',
      install: [{ spec: 'natsort==8.4.0' }, { spec: 'piq==0.8.0' }],
    },
    processes: {
      web: {
        kind: 'command',
        working_dir: '/workspace/app',
        command: ['python', 'app.py', '--port', '7860'],
      },
    },
  })
  expect(left(yaml).map((line) => line.split(': ')[0])).toEqual([
    '- apt_packages',
    '- https://civitai.com/api/download/models/5',
    `- ${HF}/o/open/resolve/main/g.safetensors`,
    '- https://github.com/a/node',
    '- https://github.com/a/app',
    '- pip_packages for /venv/other',
    '- pip_packages',
    '- shell',
    '- /data/f.bin',
  ])
})

test('a comfy-lock is carried over with its hashes and commits', () => {
  const sha256 = 'A'.repeat(64)
  const yaml = `
basics: {name: old}
models:
  - model: x
    url: ${HF}/a/b/resolve/main/x.safetensors
    paths: [{path: models/vae/x.safetensors}]
    hashes: [{hash: ${sha256}, type: SHA256}, {hash: abc, type: AutoV2}]
  - {model: nameless, type: lora}
custom_nodes:
  comfyui: ${'1'.repeat(40)}a
  git_custom_nodes:
    https://github.com/a/one: {hash: ${'b'.repeat(40)}}
    https://github.com/a/two: {disabled: true}
`
  const { manifest, leftBehind } = read(yaml)
  expect(manifest).toMatchObject({
    downloads: [{ to: 'vae/x.safetensors', from: ['hf://a/b@main/x.safetensors'], sha256: 'a'.repeat(64) }],
    custom_nodes: [{ git: 'https://github.com/a/one', ref: 'b'.repeat(40) }],
  })
  expect(leftBehind).toHaveLength(4)
})

test('what is none of these forms, or a manifest already, is refused', () => {
  expect(() => read('hello\nworld\n')).toThrow('there is nothing in it that a manifest can say')
  expect(() => read('version: 1\nname: a\ndownloads: [{to: /a, from: ["hf://a/b/c"]}]\n')).toThrow(
    'a manifest already',
  )
  expect(() => read('version: 1\ngit_repos: [{ref: main}]\n')).toThrow(
    'this is not a provisioning manifest: git_repos.0.url',
  )
  expect(() => read('custom_nodes: {git_custom_nodes: []}\n')).toThrow(
    'this is not a comfy-lock: custom_nodes.git_custom_nodes',
  )
})
