import type { Manifest } from '../../shared/manifest/schema.ts'

/** What only a box can tell: `plan --local` says so instead of passing it over. */
export const listUnchecked = (manifest: Manifest, variables: readonly string[]): readonly string[] => {
  const { requires, instance, python, processes, custom_nodes: nodes, sync, budget } = manifest
  const workflows = Object.values(processes).flatMap((spec) =>
    spec.kind === 'comfyui' ? spec.workflows : [],
  )
  const names = Object.keys(processes).join(', ')
  return [
    ...variables.map((name) => `\${${name}}: whether the box has this variable`),
    ...(requires.gpu ? ['requires.gpu: the GPU, its memory, its driver and its compute capability'] : []),
    ...(instance?.disk === undefined && (manifest.downloads.length > 0 || requires.disk_free !== undefined)
      ? ['disk: whether the downloads fit (give instance.disk to have it checked here)']
      : []),
    ...(python ? [`python: ${python.interpreter}, and what the packages do to those of the image`] : []),
    ...(nodes.length > 0 ? ['custom_nodes: the requirements that they bring'] : []),
    ...(names === '' ? [] : [`processes: working folders, programs, arguments and ports of ${names}`]),
    ...workflows.map((file) => `${file}: whether its nodes and models will be there`),
    ...sync.map(({ name, to }) => `sync ${name}: whether ${to} can be reached and written`),
    ...(budget ? ['budget: whether the box can be stopped from inside'] : []),
  ]
}
