import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { CustomNode, Manifest } from '../../shared/manifest/schema.ts'
import type { PlaceOf } from '../../shared/preflight/places-of-subjects.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'
import { CORE_NODES } from '../../shared/workflows/core-nodes.ts'
import type { WorkflowNode } from '../../shared/workflows/read-workflow.ts'
import { CORE_PACK } from '../../shared/workflows/workflow-needs.ts'
import { checkWorkflowModels } from './check-workflow-models.ts'
import type { ComfyUIFacts } from './workflow-facts.ts'

export type WorkflowCheck = { readonly problems: readonly Problem[]; readonly unchecked: readonly string[] }

/**
 * Incident A6: whether every node and model that the workflows of the manifest name is going to be there. An error where
 * nothing could bring it; a warning where something might, and only a ComfyUI that has loaded it would tell. Pure.
 */
export const checkWorkflows = (
  wanted: {
    readonly manifest: Manifest
    /** Paths that are going to be fetched. */
    readonly downloads: ReadonlySet<string>
    readonly placeOf: PlaceOf
  },
  comfyuis: ReadonlyMap<string, ComfyUIFacts>,
): WorkflowCheck => {
  const checks = Object.entries(wanted.manifest.processes).flatMap(([name, spec]) => {
    const facts = comfyuis.get(name)
    if (spec.kind !== 'comfyui' || facts === undefined) return []
    const nodes = packsOf(spec.working_dir, wanted.manifest)
    return spec.workflows.map((file) => {
      const { problems, unchecked } = checkFile(file, {
        ...{ name, facts, wantedPacks: nodes, downloads: wanted.downloads },
      })
      const at = wanted.placeOf(file) ?? wanted.placeOf(name)
      return { problems: problems.map((one) => (at ? { ...one, at } : one)), unchecked }
    })
  })
  return {
    problems: checks.flatMap(({ problems }) => problems),
    unchecked: checks.flatMap(({ unchecked }) => unchecked),
  }
}

type FileContext = {
  readonly name: string
  readonly facts: ComfyUIFacts
  readonly wantedPacks: readonly CustomNode[]
  readonly downloads: ReadonlySet<string>
}

const checkFile = (file: string, context: FileContext): WorkflowCheck => {
  const { name, facts, downloads } = context
  const fact = facts.workflows.get(file)
  if (fact === undefined || fact.state === 'absent') {
    if (downloads.has(file))
      return { problems: [], unchecked: [`${file}: its nodes and models, until it is fetched`] }
    const absent = new AgentError(
      'workflow_invalid',
      `the workflow ${file} of the process ${name} is not there`,
      {
        hint: 'Put the file there, or correct processes.*.workflows.',
      },
    )
    return { problems: [problemFrom(absent, file)], unchecked: [] }
  }
  if (fact.state === 'refused')
    return { problems: [{ ...fact.problem, subject: file, severity: 'error' }], unchecked: [] }
  const nodes = checkNodes(fact.nodes, { ...context, file })
  return {
    problems: [...nodes.problems, ...checkWorkflowModels(fact.nodes, { file, facts })],
    unchecked: nodes.unchecked,
  }
}

const checkNodes = (
  nodes: readonly WorkflowNode[],
  { file, facts, wantedPacks }: FileContext & { readonly file: string },
): WorkflowCheck => {
  const isThere = ({ type, pack }: WorkflowNode): boolean =>
    CORE_NODES.has(type) ||
    facts.named.has(type) ||
    facts.running?.nodes.has(type) === true ||
    pack === CORE_PACK
  const open = new Map(nodes.filter((node) => !isThere(node)).map((node) => [node.type, node]))
  const stated = new Set(nodes.flatMap(({ pack }) => (pack === null ? [] : [plainName(pack)])))
  const packs = [
    ...wantedPacks.map(({ git }) => ({ folder: nodeFolderName(git), names: [nodeFolderName(git)] })),
    ...facts.packs,
  ]
  const brings = (pack: string | null) =>
    pack === null
      ? undefined
      : packs.find(({ names }) => names.some((name) => plainName(name) === plainName(pack)))
  // A pack that the workflow names is that one and no other.
  const others = [
    ...new Set(
      packs
        .filter(({ names }) => !names.some((name) => stated.has(plainName(name))))
        .map(({ folder }) => folder),
    ),
  ]
  const problems: Problem[] = []
  const unchecked: string[] = []
  for (const [pack, group] of Map.groupBy(open.values(), ({ pack }) => pack)) {
    const types = group.map(({ type }) => type)
    const by = brings(pack)
    if (by === undefined) problems.push(...missing(types, { file, pack, others }))
    else
      unchecked.push(
        `${file}: whether ${by.folder} brings ${types.join(', ')}; its ComfyUI tells when it has loaded it`,
      )
  }
  return { problems, unchecked }
}

const missing = (
  types: readonly string[],
  {
    file,
    pack,
    others,
  }: { readonly file: string; readonly pack: string | null; readonly others: readonly string[] },
): readonly Problem[] => {
  const [subject = '', ...more] = types
  const what = `${file} needs ${types.length > 1 ? 'the nodes' : 'the node'} ${types.join(', ')}`
  const from = pack === null ? '' : ` of the pack ${pack}`
  const isCertain = others.length === 0
  const why = isCertain
    ? 'which nothing in custom_nodes and nothing on the box brings'
    : `which is not known here: ${others.join(', ')} may bring ${types.length > 1 ? 'them' : 'it'}, or nothing does`
  const hint =
    pack === null
      ? 'Add the pack that brings it to custom_nodes; the workflow does not say which.'
      : `Add the pack ${pack} to custom_nodes.`
  const error = new AgentError('workflow_node_missing', `${what}${from}, ${why}`, { hint })
  // The workflow is what can be done without.
  return [{ ...problemFrom(error, subject, isCertain ? 'error' : 'warning'), subjects: [...more, file] }]
}

/** The custom nodes that are cloned into this ComfyUI: they go to the first one of the manifest. */
const packsOf = (folder: string, manifest: Manifest): readonly CustomNode[] => {
  const first = Object.values(manifest.processes).find(({ kind }) => kind === 'comfyui')
  return first?.working_dir === folder ? manifest.custom_nodes : []
}

/** `owner/ComfyUI_Depth.git` and `comfyui-depth` are one pack: the registry spells names in its own way. */
const plainName = (pack: string): string =>
  nodeFolderName(pack)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '')
