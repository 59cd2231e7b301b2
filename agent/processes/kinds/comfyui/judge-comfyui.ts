import type { Problem } from '../../../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../../../shared/contract/errors.ts'
import type { WorkflowReport } from '../../../../shared/contract/records.ts'
import type { ObjectInfo } from './ask-comfyui.ts'
import type { ImportFailure, ImportReport } from './import-report.ts'
import type { ComfyUIProof } from './plan-comfyui.ts'

/**
 * Custom nodes that failed: an error for one that the manifest requires, a warning for an optional one and for one that
 * came with the image, which nobody asked for.
 */
export const judgeImports = (
  nodes: ComfyUIProof['nodes'],
  { info, imports }: { readonly info: ObjectInfo; readonly imports: ImportReport },
): readonly Problem[] => {
  const modules = new Set(Object.values(info).map(({ python_module }) => python_module))
  const failed = imports.failures.map((failure): Problem => {
    const wanted = failure.isOwn ? undefined : nodes.find(({ folder }) => folder === failure.node)
    return wanted === undefined
      ? problemFrom(
          new AgentError('import_failed', describe(failure), { hint: HINTS[failure.reason] }),
          failure.node,
          'warning',
        )
      : nodeProblem(wanted, describe(failure), HINTS[failure.reason])
  })
  const absent = nodes
    .filter(({ folder }) => !modules.has(`custom_nodes.${folder}`) && imports.loaded?.has(folder) === false)
    .filter(({ folder }) => !imports.failures.some(({ node }) => node === folder))
    .map((node) =>
      nodeProblem(
        node,
        `ComfyUI did not load the custom node ${node.folder}`,
        'Take arguments out that switch custom nodes off, and look whether its folder is there.',
      ),
    )
  return [...failed, ...absent]
}

/** What a workflow lacks, one problem for each node and model. */
export const missingProblems = (
  found: Pick<WorkflowReport, 'nodes' | 'models'>,
  { file, imports }: { readonly file: string; readonly imports: ImportReport },
): readonly Problem[] => [
  ...found.nodes
    .filter(({ present }) => !present)
    .map(({ name, pack }) => {
      const failure = imports.failures.find(({ node }) => pack !== null && isSamePack(node, pack))
      const from = pack === null ? '' : ` of the pack ${pack}`
      const why = failure === undefined ? '' : `: ${describe(failure)}`
      return problemFrom(
        new AgentError(
          'workflow_node_missing',
          `${file} needs the node ${name}${from}, which is not there${why}`,
          {
            hint:
              failure === undefined
                ? pack === null
                  ? 'Add the pack that brings it to custom_nodes; the workflow does not say which.'
                  : `Add the pack ${pack} to custom_nodes.`
                : HINTS[failure.reason],
          },
        ),
        name,
      )
    }),
  ...found.models
    .filter(({ present }) => !present)
    .map(({ name, node, folder, url }) => {
      const where = folder === null ? '' : ` in ${folder}`
      return problemFrom(
        new AgentError(
          'workflow_model_missing',
          `${file} needs the model ${name}${where} for ${node}, which is not there`,
          {
            hint: url === null ? 'Add it to downloads.' : `Add it to downloads; the workflow names ${url}.`,
          },
        ),
        name,
      )
    }),
]

const nodeProblem = (node: ComfyUIProof['nodes'][number], message: string, hint: string): Problem =>
  problemFrom(
    new AgentError('custom_node_failed', message, { hint }),
    node.folder,
    node.optional ? 'warning' : 'error',
  )

const describe = ({ node, reason, message, isOwn }: ImportFailure): string => {
  if (isOwn) return `the part ${node} of ComfyUI failed to import: ${message}`
  switch (reason) {
    case 'import':
      return `the custom node ${node} failed to import: ${message}`
    case 'empty':
      return `the custom node ${node} brings no nodes: ${message}`
    case 'prestartup':
      return `the prestartup script of the custom node ${node} failed: ${message}`
  }
}

const HINTS: Readonly<Record<ImportFailure['reason'], string>> = {
  import:
    'Add what it misses to python.install or its requirements; its traceback is in the output of the process.',
  empty: 'Look whether its folder is the pack itself and its checkout is whole.',
  prestartup: 'Read the output of the process; the script runs before anything is loaded.',
}

/** The registry's ids are lower case, and what the editor notes may be `owner/repository`. */
const isSamePack = (folder: string, pack: string): boolean =>
  folder.toLowerCase() === (pack.split('/').at(-1) ?? '').toLowerCase()
