import { basename } from 'node:path'
import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { readManifestText } from '../manifest-text.ts'
import { green, yellow } from '../output/text.ts'

/** Where ComfyUI keeps its models on the images of Vast.ai and RunPod. */
const MODELS_ROOT = '/workspace/ComfyUI/models'

export const manifestCheck: Command = {
  name: 'manifest check',
  group: 'Manifests and runs',
  summary: 'every mistake in a manifest, with its line; needs no box',
  example: 'agentctl manifest check box.yaml',
  arguments: [{ name: 'file', summary: 'the manifest' }],
  run: async (call) => {
    const { manifest: text, file } = await readManifestText(argument(call, 0))
    const { parseManifest } = await import('../../shared/manifest/parse-manifest.ts')
    const { manifest, digest } = parseManifest(text, { file })
    if (call.output.json) call.output.document({ manifest: { name: manifest.name, digest }, problems: [] })
    call.output.line(green('ok'), ` ${file}: ${manifest.name}`)
    return EXIT.done
  },
}

export const manifestImport: Command = {
  name: 'manifest import',
  group: 'Manifests and runs',
  summary: 'a manifest from a list of models, a provisioning manifest or a comfy-lock',
  example: 'agentctl manifest import models.txt > box.yaml',
  arguments: [{ name: 'file', summary: 'lines url|fallback|name, a script with such arrays, or YAML' }],
  options: [
    { flags: '--name <name>', summary: 'the name of the manifest; by default that of the file' },
    {
      flags: '--models-root <folder>',
      summary: `the folder that destinations lie in (${MODELS_ROOT} by default)`,
    },
  ],
  run: async (call) => {
    const file = argument(call, 0)
    const { manifest: text, file: shown } = await readManifestText(file)
    const { importManifest } = await import('../../shared/manifest/import/import-manifest.ts')
    const {
      manifest,
      text: yaml,
      leftBehind,
    } = importManifest(text, {
      name: textOption(call, 'name') ?? nameFrom(file),
      modelsRoot: textOption(call, 'modelsRoot') ?? MODELS_ROOT,
    })
    if (call.output.json) call.output.document({ manifest, text: yaml, leftBehind })
    else await call.output.raw(yaml)
    for (const { line, what, why } of leftBehind) {
      const place = line === null ? shown : `${shown}:${line}`
      call.output.note(`${place}: `, yellow('not carried over'), `: ${what}: ${why}`)
    }
    return EXIT.done
  },
}

/** `provision-video-only.sh` → `provision-video-only`. */
const nameFrom = (file: string): string => {
  const name = basename(file)
    .replace(/\.\w+$/, '')
    .replace(/[^A-Za-z0-9_-]+/g, '-')
    .replace(/^[-_]+/, '')
    .slice(0, 63)
  return name === '' ? 'imported' : name
}

export const manifestSchema: Command = {
  name: 'manifest schema',
  group: 'Manifests and runs',
  summary: 'the JSON Schema of a manifest, for completion in editors',
  example: 'agentctl manifest schema > manifest.schema.json',
  run: async (call) => {
    const { manifestJsonSchema } = await import('../../shared/manifest/json-schema.ts')
    await call.output.raw(`${JSON.stringify(manifestJsonSchema(), undefined, call.output.json ? 0 : 2)}\n`)
    return EXIT.done
  },
}
