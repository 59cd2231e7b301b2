import { join } from 'node:path'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { CORE_NODES } from '../../shared/workflows/core-nodes.ts'
import type { WorkflowNode } from '../../shared/workflows/read-workflow.ts'
import { baseName } from '../../shared/workflows/read-workflow.ts'
import type { NeededModel } from '../../shared/workflows/workflow-needs.ts'
import { workflowNeeds } from '../../shared/workflows/workflow-needs.ts'
import type { ComfyUIFacts } from './workflow-facts.ts'

/** Folders that ComfyUI looks into for the same models. */
const SAME_FOLDERS: readonly (readonly string[])[] = [
  ['diffusion_models', 'unet'],
  ['text_encoders', 'clip'],
  ['controlnet', 't2i_adapter'],
]

/**
 * Models that a workflow names and that neither lie on the box nor are fetched to where ComfyUI looks for them: an error
 * where ComfyUI's own loader would not find it, a warning where a pack may have its own ways. Pure.
 */
export const checkWorkflowModels = (
  nodes: readonly WorkflowNode[],
  { file, facts }: { readonly file: string; readonly facts: ComfyUIFacts },
): readonly Problem[] =>
  workflowNeeds(nodes).models.flatMap((model) => {
    const { name, folder, node, url } = model
    if (isThere(model, facts)) return []
    const isCertain = !facts.looksElsewhere && folder !== null && (CORE_NODES.has(node) || url !== null)
    const other = [...facts.models.map((path) => join(facts.modelsFolder, path)), ...facts.elsewhere].find(
      (path) => baseName(path) === baseName(name),
    )
    const where = folder === null ? facts.modelsFolder : join(facts.modelsFolder, folder)
    const why =
      other === undefined
        ? `which is not in ${where}, and no download brings it`
        : `which is looked for in ${where}; ${other} is not there`
    const hint =
      other !== undefined
        ? `Correct its destination under downloads to ${join(where, name)}.`
        : url === null
          ? 'Add it to downloads.'
          : `Add it to downloads; the workflow names ${url}.`
    const message = `${file} needs the model ${name} for ${node}, ${why}`
    const error = new AgentError('workflow_model_missing', message, { hint })
    return [{ ...problemFrom(error, name, isCertain ? 'error' : 'warning'), subjects: [file] }]
  })

const isThere = ({ name, folder }: NeededModel, facts: ComfyUIFacts): boolean => {
  if (facts.running?.models.has(name) === true) return true
  const path = name.replaceAll('\\', '/')
  if (folder === null) return facts.models.some((one) => baseName(one) === baseName(name))
  const folders = SAME_FOLDERS.find((same) => same.includes(folder)) ?? [folder]
  return folders.some((one) => facts.models.includes(join(one, path)))
}
