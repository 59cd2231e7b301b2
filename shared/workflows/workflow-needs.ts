import { CORE_NODES } from './core-nodes.ts'
import type { WorkflowNode } from './read-workflow.ts'
import { baseName, MODEL_FILE } from './read-workflow.ts'

/** What a workflow says that it needs: files with their addresses, and packs of custom nodes. */
export type WorkflowNeeds = {
  readonly models: readonly NeededModel[]
  readonly packs: readonly NeededPack[]
  /** Node classes of which the workflow does not say where they come from, and that are not ComfyUI’s own. */
  readonly strangers: readonly string[]
}

export type NeededModel = {
  readonly name: string
  /** Under models_root; null when the workflow does not say, and its node is not known for one. */
  readonly folder: string | null
  readonly url: string | null
  readonly sha256: string | null
  readonly node: string
}

/** A pack by its id in ComfyUI’s registry, or as `owner/repository` of GitHub. */
export type NeededPack = { readonly id: string; readonly version: string | null }

/** ComfyUI’s own, as the editor notes it. */
export const CORE_PACK = 'comfy-core'

/** The folder that the inputs of ComfyUI’s own loaders read from. */
const FOLDER_OF_INPUT: Readonly<Record<string, string>> = {
  ckpt_name: 'checkpoints',
  lora_name: 'loras',
  vae_name: 'vae',
  unet_name: 'diffusion_models',
  clip_name: 'text_encoders',
  clip_name1: 'text_encoders',
  clip_name2: 'text_encoders',
  clip_name3: 'text_encoders',
  control_net_name: 'controlnet',
  style_model_name: 'style_models',
  gligen_name: 'gligen',
}
const FOLDER_OF_LOADER: Readonly<Record<string, string>> = {
  CheckpointLoaderSimple: 'checkpoints',
  LoraLoader: 'loras',
  LoraLoaderModelOnly: 'loras',
  VAELoader: 'vae',
  UNETLoader: 'diffusion_models',
  CLIPLoader: 'text_encoders',
  DualCLIPLoader: 'text_encoders',
  TripleCLIPLoader: 'text_encoders',
  ControlNetLoader: 'controlnet',
  CLIPVisionLoader: 'clip_vision',
  StyleModelLoader: 'style_models',
  UpscaleModelLoader: 'upscale_models',
}

/** Everything once. Pure. */
export const workflowNeeds = (nodes: readonly WorkflowNode[]): WorkflowNeeds => {
  const models = new Map<string, NeededModel>()
  const packs = new Map<string, NeededPack>()
  const strangers = new Set<string>()
  for (const node of nodes) {
    if (node.pack !== null && node.pack !== CORE_PACK) {
      const known = packs.get(node.pack)
      packs.set(node.pack, { id: node.pack, version: known?.version ?? node.packVersion })
    } else if (node.pack === null && !CORE_NODES.has(node.type)) strangers.add(node.type)
    for (const { name, directory: folder, url, sha256 } of node.models)
      models.set(baseName(name), { name, folder, url, sha256, node: node.type })
  }
  // A model that is only chosen, and not declared, has no address.
  for (const { type, values } of nodes)
    for (const { input, value } of values) {
      if (!MODEL_FILE.test(value) || models.has(baseName(value))) continue
      const folder = FOLDER_OF_INPUT[input ?? ''] ?? FOLDER_OF_LOADER[type] ?? null
      models.set(baseName(value), { name: value, folder, url: null, sha256: null, node: type })
    }
  return { models: [...models.values()], packs: [...packs.values()], strangers: [...strangers] }
}
