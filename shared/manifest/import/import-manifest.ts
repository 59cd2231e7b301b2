import { parse, stringify } from 'yaml'
import { AgentError } from '../../contract/errors.ts'
import { isRecord } from '../places.ts'
import { parseManifest } from '../parse-manifest.ts'
import { importComfyLock } from './import-comfy-lock.ts'
import { importList } from './import-list.ts'
import { importProvisioning } from './import-provisioning.ts'
import type { Imported, ImportedFile, LeftBehind } from './imported.ts'

/** A manifest made from another form, as text that `parseManifest` accepts, and everything that it does not say. */
export type ImportedManifest = {
  readonly manifest: Readonly<Record<string, unknown>>
  readonly text: string
  readonly leftBehind: readonly LeftBehind[]
}

/**
 * Turns a list (`url|fallback|name`, shell arrays or plain text), a provisioning manifest of Vast.ai's base image or a
 * comfy-lock into a manifest.
 * @throws AgentError bad_request when it is none of them, or holds nothing to carry over
 */
export const importManifest = (
  text: string,
  context: { readonly name: string; readonly modelsRoot: string },
): ImportedManifest => {
  const imported = importAny(text)
  const leftBehind = [...imported.leftBehind]
  const files = mergeFiles(imported.files, { modelsRoot: context.modelsRoot, leftBehind })
  const manifest = toManifest({ ...imported, files }, context)
  if (files.length + imported.snapshots.length + imported.nodes.length === 0 && imported.python === null)
    throw new AgentError('bad_request', 'there is nothing in it that a manifest can say', {
      hint: 'Give a list url|fallback|name, a provisioning manifest or a comfy-lock.',
    })
  const yaml = stringify(manifest, { lineWidth: 0 })
  // What comes out must be one: a name that no manifest may hold is told with its place.
  parseManifest(yaml, { file: 'the imported manifest' })
  return { manifest, text: yaml, leftBehind }
}

const importAny = (text: string): Imported => {
  const value = readYaml(text)
  if (
    isRecord(value) &&
    ('models' in value || 'custom_nodes' in value || 'basic' in value || 'basics' in value)
  )
    return importComfyLock(value)
  if (isRecord(value) && value['version'] === 1) {
    if (
      typeof value['name'] === 'string' &&
      Array.isArray(value['downloads']) &&
      value['downloads'].some(isOurs)
    )
      throw new AgentError('bad_request', 'this is a manifest already', { hint: 'Use it as it is.' })
    return importProvisioning(value)
  }
  return importList(text)
}

const isOurs = (download: unknown): boolean =>
  isRecord(download) && ('from' in download || 'snapshot' in download)

const readYaml = (text: string): unknown => {
  try {
    return parse(text, { maxAliasCount: 0, logLevel: 'silent' })
  } catch {
    // A shell script is no YAML.
    return undefined
  }
}

const PICKLE = /\.(ckpt|pt|pth|bin|pkl|pickle)$/i

/** One entry a destination: a second one brings more sources. Formats that run code are told, and stay refused. */
const mergeFiles = (
  files: readonly ImportedFile[],
  context: { readonly modelsRoot: string; readonly leftBehind: LeftBehind[] },
): readonly ImportedFile[] => {
  const merged = new Map<string, ImportedFile>()
  for (const file of files) {
    const root = `${context.modelsRoot}/`
    const to = file.to.startsWith(root) ? file.to.slice(root.length) : file.to
    const first = merged.get(to)
    merged.set(to, { ...(first ?? file), to, from: [...new Set([...(first?.from ?? []), ...file.from])] })
    if (first === undefined && PICKLE.test(to))
      context.leftBehind.push({
        line: null,
        what: to,
        why: 'this format can run code when it is loaded: plan refuses it until you set allow_pickle: true',
      })
  }
  return [...merged.values()]
}

const toManifest = (
  imported: Imported,
  context: { readonly name: string; readonly modelsRoot: string },
): Record<string, unknown> => {
  const { files, snapshots, nodes, python, processes, secrets } = imported
  const sources = [...files.flatMap(({ from }) => from), ...snapshots]
  // The tokens of the hubs it fetches from: optional, because not every repository wants one.
  const tokens = [
    ...(sources.some((source) => source.startsWith('hf://')) ? ['HF_TOKEN'] : []),
    ...(sources.some((source) => source.startsWith('civitai://')) ? ['CIVITAI_TOKEN'] : []),
  ]
  const optional = [...new Set([...secrets.optional, ...tokens])]
  const hasComfyUI = Object.values(processes).some((spec) => isRecord(spec) && spec['kind'] === 'comfyui')
  return {
    version: 1,
    name: context.name,
    ...(optional.length > 0 ? { secrets: { optional } } : {}),
    models_root: context.modelsRoot,
    downloads: [
      ...files.map(({ to, from, sha256 }) => ({ to, from, ...(sha256 === undefined ? {} : { sha256 }) })),
      ...[...new Set(snapshots)].map((snapshot) => ({ snapshot })),
    ],
    ...(python === null
      ? {}
      : {
          python: {
            interpreter: python.interpreter,
            requirements: python.requirements,
            install: python.install.map((spec) => ({ spec })),
          },
        }),
    ...(nodes.length > 0 ? { custom_nodes: nodes } : {}),
    ...(Object.keys(processes).length > 0 || (nodes.length > 0 && !hasComfyUI)
      ? {
          processes: {
            ...(nodes.length > 0 && !hasComfyUI
              ? { comfyui: { kind: 'comfyui', working_dir: context.modelsRoot.replace(/\/models\/?$/, '') } }
              : {}),
            ...processes,
          },
        }
      : {}),
  }
}
