import { dirname } from 'node:path'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { planJobs } from '../processes/planned-process.ts'
import type { PlannedProcess } from '../processes/planned-process.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'

/** The Python that processes run with, as the overlay has it or is going to have it. */
export type ProcessPython = {
  readonly interpreter: string
  readonly binFolder: string
  readonly environment: Readonly<Record<string, string>>
}

/** The processes of a manifest, resolved; refused variables and arguments are problems. */
export const planProcesses = (
  manifest: Manifest,
  context: { readonly python: ProcessPython | null; readonly searchPath: string },
): { readonly planned: readonly PlannedProcess[]; readonly problems: readonly Problem[] } => {
  const { python, searchPath } = context
  // The image's own programs (tensorboard beside its Python) stay on the path, after the overlay's.
  const baseBin = manifest.python && dirname(manifest.python.interpreter)
  // They are cloned into the first ComfyUI of the manifest.
  const nodesHome = Object.values(manifest.processes).find(({ kind }) => kind === 'comfyui')?.working_dir
  const customNodes = manifest.custom_nodes.map(({ git, ref, optional }) => ({
    folder: nodeFolderName(git),
    optional,
    origin: `${git}@${ref}`,
  }))
  const planned: PlannedProcess[] = []
  const problems: Problem[] = []
  for (const [name, spec] of Object.entries(manifest.processes)) {
    try {
      planned.push(
        ...planJobs(name, spec, {
          interpreter: python?.interpreter ?? null,
          binFolder: python?.binFolder ?? null,
          searchPath: baseBin === undefined ? searchPath : `${baseBin}:${searchPath}`,
          customNodes: spec.working_dir === nodesHome ? customNodes : [],
          environment: {
            ...python?.environment,
            ...(manifest.hf_home === undefined ? {} : { HF_HOME: manifest.hf_home }),
          },
        }),
      )
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      problems.push(...(error.problems ?? [problemFrom(error, name)]))
    }
  }
  return { planned, problems }
}
