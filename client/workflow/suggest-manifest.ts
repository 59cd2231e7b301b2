import { basename } from 'node:path'
import { stringify } from 'yaml'
import { formatSource, parseSource } from '../../shared/sources/parse-source.ts'
import type { NeededModel, NeededPack, WorkflowNeeds } from '../../shared/workflows/workflow-needs.ts'
import { baseName } from '../../shared/workflows/read-workflow.ts'
import type { RegistryPack } from './ask-registry.ts'

/** A manifest that brings what a workflow needs, and what could not be carried over into it. */
export type SuggestedManifest = { readonly text: string; readonly missing: readonly string[] }

type Suggestion = {
  /** The file, for the name and the path on the box. */
  readonly file: string
  readonly registry: {
    readonly pack: (id: string) => Promise<RegistryPack | undefined>
    readonly packOfNode: (name: string) => Promise<RegistryPack | undefined>
  }
  /** The commit that a ref of a repository stands for now; undefined when it cannot be told. */
  readonly commitOf: (git: string, ref: string) => Promise<string | undefined>
}

const COMFYUI = '/workspace/ComfyUI'
const PICKLE = /\.(ckpt|pt|pth|bin|pkl)$/i
const COMMIT = /^[0-9a-f]{40}$/i

/** Writes it. Nothing is invented: a model without an address and a node without a pack are listed instead. */
export const suggestManifest = async (
  needs: WorkflowNeeds,
  context: Suggestion,
): Promise<SuggestedManifest> => {
  const missing: string[] = []
  const downloads = needs.models.flatMap((model) => downloadOf(model, missing))
  const nodes = new Map<string, CustomNodeEntry>()
  for (const pack of needs.packs) {
    const git = pack.id.includes('/')
      ? `https://github.com/${pack.id}`
      : (await context.registry.pack(pack.id))?.repository
    if (git === undefined)
      missing.push(`the pack ${pack.id}: ComfyUI's registry does not know it, or does not answer`)
    else await addNode(nodes, { git: trimmed(git), pack, context, missing })
  }
  for (const name of needs.strangers) {
    const found = await context.registry.packOfNode(name)
    if (found?.id === 'comfy-core') continue
    const pack = { id: found?.id ?? '', version: null }
    if (found === undefined) missing.push(`the node ${name}: the workflow does not say which pack brings it`)
    else if (!nodes.has(trimmed(found.repository)))
      await addNode(nodes, { git: trimmed(found.repository), pack, context, missing })
  }
  const name = basename(context.file).replace(/\.[^.]*$/, '')
  const manifest = {
    version: 1,
    name:
      name
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, '-')
        .replace(/^-+|-+$/g, '') || 'workflow',
    models_root: `${COMFYUI}/models`,
    ...(downloads.length === 0 ? {} : { downloads }),
    ...(nodes.size === 0 ? {} : { custom_nodes: [...nodes.values()] }),
    processes: {
      comfyui: {
        kind: 'comfyui',
        working_dir: COMFYUI,
        workflows: [`/workspace/workflows/${name}.json`],
      },
    },
  }
  return { text: `${header(context.file, missing)}${stringify(manifest, { lineWidth: 0 })}`, missing }
}

type CustomNodeEntry = { readonly git: string; readonly ref: string }

const addNode = async (
  nodes: Map<string, CustomNodeEntry>,
  {
    git,
    pack,
    context,
    missing,
  }: {
    readonly git: string
    readonly pack: NeededPack
    readonly context: Suggestion
    readonly missing: string[]
  },
): Promise<void> => {
  const { version } = pack
  if (version !== null && COMMIT.test(version)) {
    nodes.set(git, { git, ref: version.toLowerCase() })
    return
  }
  // Many packs tag their versions, one way or the other; what is newest is the next best.
  const tags = version !== null && /^\d+\.\d+/.test(version) ? [`v${version}`, version] : []
  for (const ref of [...tags, 'HEAD']) {
    const commit = await context.commitOf(git, ref)
    if (commit === undefined) continue
    nodes.set(git, { git, ref: commit })
    if (ref === 'HEAD' && version !== null)
      missing.push(`version ${version} of ${git}: it has no such tag, so its newest commit is taken`)
    return
  }
  missing.push(`the commit of ${git}: it does not answer; write it as ref`)
  nodes.set(git, { git, ref: 'HEAD' })
}

const downloadOf = (model: NeededModel, missing: string[]): readonly Readonly<Record<string, unknown>>[] => {
  const { name, folder, url, sha256, node } = model
  const to = folder === null ? baseName(name) : `${folder}/${baseName(name)}`
  const leaveOut = (why: string): [] => {
    missing.push(`${to} for ${node}: ${why}`)
    return []
  }
  if (url === null) return leaveOut('the workflow names no address')
  if (folder === null) return leaveOut(`the workflow names no folder for ${url}`)
  if (PICKLE.test(name))
    return leaveOut(`it can run code when it is loaded; add ${url} with allow_pickle if you trust it`)
  try {
    return [
      {
        to,
        from: [formatSource(parseSource(url))],
        ...(sha256 === null ? {} : { sha256: sha256.toLowerCase() }),
      },
    ]
  } catch {
    return leaveOut(`its address ${url} is none that can be fetched from`)
  }
}

const trimmed = (git: string): string => git.replace(/\/+$/, '').replace(/\.git$/, '')

const header = (file: string, missing: readonly string[]): string => {
  const lines = [
    `What ${basename(file)} needs, as far as it says so. Put the file itself on the box as well.`,
  ]
  if (missing.length > 0) lines.push('Not carried over:', ...missing.map((one) => `  ${one}`))
  // What comes from the workflow must not end the comment.
  return lines.map((line) => `# ${line.replace(/[\r\n]+/g, ' ')}\n`).join('')
}
