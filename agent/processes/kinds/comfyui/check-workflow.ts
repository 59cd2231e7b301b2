import type { WorkflowReport } from '../../../../shared/contract/records.ts'
import type { WorkflowNode } from '../../../../shared/workflows/read-workflow.ts'
import { baseName, MODEL_FILE } from '../../../../shared/workflows/read-workflow.ts'
import type { ComfyUI, ObjectInfo } from './ask-comfyui.ts'

type Found = Pick<WorkflowReport, 'nodes' | 'models'>

/** Which nodes and models a workflow needs, and whether this ComfyUI has them. Each is listed once. */
export const checkWorkflow = async (
  workflow: readonly WorkflowNode[],
  { info, comfyui }: { readonly info: ObjectInfo; readonly comfyui: Pick<ComfyUI, 'models'> },
): Promise<Found> => {
  const nodes = new Map<string, Found['nodes'][number]>()
  const models = new Map<string, Found['models'][number]>()
  for (const { type, pack, values } of workflow) {
    const known = info[type]
    const before = nodes.get(type)
    const brings = before?.pack ?? pack ?? packOf(known?.python_module)
    nodes.set(type, { name: type, pack: brings, present: known !== undefined })
    for (const { value, present } of known ? modelValues(known, values) : [])
      models.set(value, { name: value, folder: null, node: type, url: null, present })
  }
  const listed = new Map<string, readonly string[]>()
  for (const { type, models: declared } of workflow)
    for (const { name, directory, url } of declared) {
      if (!listed.has(directory)) listed.set(directory, await comfyui.models(directory))
      const onDisk = listed.get(directory)?.some((file) => baseName(file) === baseName(name)) ?? false
      // What the node itself can be set to is the better witness; where it is unknown, the folder speaks.
      const key = [...models.keys()].find((value) => baseName(value) === baseName(name)) ?? name
      const present = models.get(key)?.present ?? onDisk
      models.set(key, { name: key, folder: directory, node: type, url, present })
    }
  return { nodes: [...nodes.values()], models: [...models.values()] }
}

/** The files a node is set to. A name that no choice of the node could mean is a text and no file. */
const modelValues = (
  known: ObjectInfo[string],
  values: WorkflowNode['values'],
): readonly { readonly value: string; readonly present: boolean }[] => {
  const choices = choicesOf(known)
  const ofModels = [...choices.values()].filter(
    (options) => options.length === 0 || options.some((option) => MODEL_FILE.test(option)),
  )
  return values.flatMap(({ input, value }) => {
    if (!MODEL_FILE.test(value)) return []
    const own = input === null ? undefined : choices.get(input)
    const candidates = own === undefined ? (input === null ? ofModels : []) : [own]
    if (candidates.length === 0) return []
    return [{ value, present: candidates.some((options) => options.includes(value)) }]
  })
}

/** The inputs of a node that are chosen from a list: `[[…], {…}]` in the older form, `["COMBO", {options}]` since. */
const choicesOf = (known: ObjectInfo[string]): ReadonlyMap<string, readonly string[]> => {
  const choices = new Map<string, readonly string[]>()
  for (const [name, input] of Object.values(known.input).flatMap((group) => Object.entries(group))) {
    const [kind, more] = Array.isArray(input) ? (input as readonly unknown[]) : []
    const options = Array.isArray(kind)
      ? kind
      : kind === 'COMBO'
        ? (more as { options?: unknown } | undefined)?.options
        : undefined
    if (Array.isArray(options))
      choices.set(
        name,
        options.filter((option) => typeof option === 'string'),
      )
  }
  return choices
}

/** `custom_nodes.Impact-Pack` → `Impact-Pack`; null for ComfyUI’s own. */
const packOf = (module: string | undefined): string | null =>
  /^custom_nodes\.(.+)$/.exec(module ?? '')?.[1] ?? null
