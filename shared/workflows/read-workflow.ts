import { z } from 'zod'
import { AgentError } from '../contract/errors.ts'
import { FRONTEND_NODES } from './frontend-nodes.ts'
import { isPng, readPngTexts } from './png-text.ts'

/** A value of a node that may name a file; the format of the editor does not say which input it belongs to. */
export type WorkflowValue = { readonly input: string | null; readonly value: string }

/** A node that runs: its class, the pack that brings it as far as the workflow says so, and what it is set to. */
export type WorkflowNode = {
  readonly type: string
  readonly pack: string | null
  /** The version of the pack that it was made with: a commit, or a number of the registry. */
  readonly packVersion: string | null
  readonly values: readonly WorkflowValue[]
  /** Model files that the author wrote down with the node, and that it is set to. */
  readonly models: readonly DeclaredModel[]
}

export type DeclaredModel = {
  readonly name: string
  readonly directory: string
  readonly url: string | null
  readonly sha256: string | null
}

/** The JSON text of a workflow file: the file itself, or what ComfyUI keeps in a PNG image. @throws workflow_invalid */
export const workflowText = (bytes: Uint8Array, file: string): string => {
  if (!isPng(bytes)) return new TextDecoder().decode(bytes)
  const texts = readPngTexts(bytes)
  const text = texts.get('workflow') ?? texts.get('prompt')
  if (text === undefined)
    throw new AgentError('workflow_invalid', `${file} is an image without a workflow in it`)
  return text
}

/**
 * The nodes of a workflow that would run, in the editor's format (with subgraphs and group nodes) or the API's.
 * Muted and bypassed nodes, notes and other nodes of the editor alone are left out.
 * @throws AgentError workflow_invalid
 */
export const readWorkflow = (text: string, file: string): readonly WorkflowNode[] => {
  const value = parseJson(text, file)
  const editor = EditorWorkflow.safeParse(value)
  if (editor.success) return editorNodes(editor.data)
  const wrapped = z.object({ prompt: ApiWorkflow }).safeParse(value)
  const api = wrapped.success ? wrapped : ApiWorkflow.safeParse(value)
  if (!api.success)
    throw new AgentError('workflow_invalid', `${file} is neither a workflow of the editor nor one of the API`)
  const nodes = wrapped.success ? wrapped.data.prompt : (api.data as z.infer<typeof ApiWorkflow>)
  return Object.values(nodes).map(apiNode)
}

const text = z.string().optional().catch(undefined)
const Model = z.object({ name: z.string(), directory: z.string(), url: text, hash: text, hash_type: text })

const EditorNode = z.object({
  type: z.string(),
  mode: z.number().catch(0).default(0),
  widgets_values: z.unknown().optional(),
  properties: z
    .object({ cnr_id: text, aux_id: text, ver: text, models: z.array(z.unknown()).catch([]).default([]) })
    .catch({ models: [] })
    .default({ models: [] }),
})
type EditorNode = z.infer<typeof EditorNode>

const EditorWorkflow = z.object({
  nodes: z.array(EditorNode),
  definitions: z
    .object({ subgraphs: z.array(z.object({ id: z.string(), nodes: z.array(EditorNode) })).default([]) })
    .optional(),
  extra: z
    .object({ groupNodes: z.record(z.string(), z.object({ nodes: z.array(EditorNode) })).default({}) })
    .optional()
    .catch(undefined),
})

const ApiNode = z.object({ class_type: z.string(), inputs: z.record(z.string(), z.unknown()).default({}) })
const ApiWorkflow = z
  .record(z.string(), ApiNode)
  .refine((nodes) => Object.keys(nodes).length > 0, 'has no nodes')

/** What the editor calls “never” and “bypass”. */
const OFF = [2, 4]
const GROUP = /^workflow[/>]/

/** Nodes of subgraphs and group nodes count once, when a node that runs stands for them; they may contain others. */
const editorNodes = (workflow: z.infer<typeof EditorWorkflow>): readonly WorkflowNode[] => {
  const found: WorkflowNode[] = []
  const subgraphs = new Map(workflow.definitions?.subgraphs.map(({ id, nodes }) => [id, nodes]))
  const groups = new Map(Object.entries(workflow.extra?.groupNodes ?? {}))
  const visited = new Set<string>()
  const visit = (nodes: readonly EditorNode[]): void => {
    for (const node of nodes) {
      if (OFF.includes(node.mode) || FRONTEND_NODES.has(node.type)) continue
      const inner = subgraphs.get(node.type) ?? groups.get(node.type.replace(GROUP, ''))?.nodes
      const isOwn = inner === undefined || !(subgraphs.has(node.type) || GROUP.test(node.type))
      if (isOwn) found.push(editorNode(node))
      else if (!visited.has(node.type)) {
        visited.add(node.type)
        visit(inner)
      }
    }
  }
  visit(workflow.nodes)
  return found
}

const editorNode = ({ type, properties, widgets_values: widgets }: EditorNode): WorkflowNode => {
  const given: readonly (readonly [string | null, unknown])[] = Array.isArray(widgets)
    ? widgets.map((value: unknown) => [null, value] as const)
    : Object.entries(widgets ?? {})
  const values = given.flatMap(([input, value]) => (typeof value === 'string' ? [{ input, value }] : []))
  const chosen = new Set(values.map(({ value }) => baseName(value)))
  const models = properties.models
    .flatMap((one) => Model.safeParse(one).data ?? [])
    // The list stays in the file when another model is chosen; then it speaks of a model that is not needed.
    .filter(({ name }) => chosen.size === 0 || chosen.has(baseName(name)))
    .map(({ name, directory, url, hash, hash_type: kind }) => ({
      name,
      directory,
      url: url ?? null,
      sha256: kind?.toLowerCase() === 'sha256' ? (hash ?? null) : null,
    }))
  const pack = properties.cnr_id ?? properties.aux_id ?? null
  return { type, pack, packVersion: properties.ver ?? null, values, models }
}

const apiNode = ({ class_type: type, inputs }: z.infer<typeof ApiNode>): WorkflowNode => ({
  type,
  pack: null,
  packVersion: null,
  values: Object.entries(inputs).flatMap(([input, value]) =>
    typeof value === 'string' ? [{ input, value }] : [],
  ),
  models: [],
})

/** Names of files that hold a model. */
export const MODEL_FILE = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx|pkl)$/i

/** The file's name of a value that may have a folder, with the separators of either system. */
export const baseName = (value: string): string => value.split(/[\\/]/).at(-1) ?? ''

const parseJson = (source: string, file: string): unknown => {
  try {
    return JSON.parse(source)
  } catch (error) {
    throw new AgentError('workflow_invalid', `${file} is not JSON: ${(error as Error).message}`, {
      cause: error,
    })
  }
}
