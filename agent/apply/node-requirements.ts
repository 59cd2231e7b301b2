import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { withSubjects } from '../../shared/preflight/caused-problem.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'

/** The requirements of a custom node that is on the box already. */
export type NodeRequirements = {
  readonly name: string
  readonly folder: string
  readonly file: string
  readonly optional: boolean
}

/** Where custom nodes lie: in the ComfyUI that the manifest runs, else in the one whose models it brings. */
export const nodesFolder = ({ processes, models_root }: Manifest): string | undefined => {
  const comfyui = Object.values(processes).find((spec) => spec.kind === 'comfyui')
  if (comfyui) return join(comfyui.working_dir, 'custom_nodes')
  return models_root !== undefined && basename(models_root) === 'models'
    ? join(dirname(models_root), 'custom_nodes')
    : undefined
}

/** Custom nodes that nothing gives a place: a run that left them out would look like one that brought them. */
export const refuseUnplaced = (manifest: Manifest): readonly Problem[] => {
  const [subject, ...others] = manifest.custom_nodes.map(({ git }) => nodeFolderName(git))
  if (subject === undefined || nodesFolder(manifest) !== undefined) return []
  const error = new AgentError('invalid_manifest', 'nothing says in which ComfyUI the custom_nodes go', {
    hint: 'Add the process of kind comfyui with its working_dir, or the models_root …/ComfyUI/models.',
  })
  return [withSubjects(problemFrom(error, subject), others)]
}

/** The requirements files that the manifest's custom nodes brought. */
export const nodeRequirements = (manifest: Manifest): readonly NodeRequirements[] => {
  const nodes = nodesFolder(manifest)
  if (nodes === undefined) return []
  return manifest.custom_nodes
    .map(({ git, optional }) => {
      const name = nodeFolderName(git)
      const folder = join(nodes, name)
      return { name, folder, file: join(folder, 'requirements.txt'), optional }
    })
    .filter(({ file }) => existsSync(file))
}

/** What trying with some of the nodes came to. */
export type Attempt<T> = { readonly value: T; readonly errors: readonly Problem[] }

/** The attempt that counts, and the optional nodes that it had to do without, each with its reason. */
export type Served<T> = Attempt<T> & { readonly dropped: readonly Problem[] }

/**
 * Tries with all nodes, and where that fails, without the optional ones that are the reason. Whatever else is wrong comes
 * back as it was with all of them.
 */
export const serveNodes = async <T>(
  nodes: readonly NodeRequirements[],
  attempt: (nodes: readonly NodeRequirements[]) => Promise<Attempt<T>>,
): Promise<Served<T>> => {
  const whole = await attempt(nodes)
  const dropped: Problem[] = []
  let kept = nodes
  let last = whole
  while (last.errors.length > 0) {
    const named = kept.flatMap((node) => (node.optional ? (refusalOf(node, last.errors) ?? []) : []))
    if (named.length === 0) break
    dropped.push(...named)
    kept = kept.filter(({ name }) => named.every(({ subject }) => subject !== name))
    last = await attempt(kept)
  }
  if (last.errors.length === 0) return { ...last, dropped }
  if (kept.every(({ optional }) => !optional)) return { ...whole, dropped: [] }
  // No line is to blame alone: one after the other, so that the node that does not fit is known.
  let served = kept.filter(({ optional }) => !optional)
  let best = await attempt(served)
  if (best.errors.length > 0) return { ...whole, dropped: [] }
  for (const node of kept.filter(({ optional }) => optional)) {
    const tried = await attempt([...served, node])
    const [cause] = tried.errors
    if (cause === undefined) [best, served] = [tried, [...served, node]]
    else dropped.push(dropping(node, cause))
  }
  return { ...best, dropped }
}

const refusalOf = (node: NodeRequirements, errors: readonly Problem[]): Problem | undefined => {
  const cause = errors.find(({ at }) => at?.file.startsWith(`${node.folder}/`))
  return cause && dropping(node, cause)
}

const dropping = (node: NodeRequirements, cause: Problem): Problem => ({
  ...cause,
  code: 'custom_node_failed',
  severity: 'warning',
  subject: node.name,
  message: `${node.name} goes without its packages: ${cause.message}`,
})
