import { AgentError } from '../../shared/contract/errors.ts'
import { askGitRef } from '../../shared/sources/ask-git.ts'
import { allowHostsFrom, endpointsFrom } from '../../shared/sources/endpoints.ts'
import type { WorkflowNode } from '../../shared/workflows/read-workflow.ts'
import { workflowNeeds } from '../../shared/workflows/workflow-needs.ts'
import type { Environment } from '../command.ts'
import { createFetcher } from '../fetch-source.ts'
import { sleep } from '../wait.ts'
import { askRegistry, registryEndpoint } from './ask-registry.ts'
import type { SuggestedManifest } from './suggest-manifest.ts'
import { suggestManifest } from './suggest-manifest.ts'

/** A manifest for a workflow, with what ComfyUI’s registry and the packs’ repositories say. @throws the signal's reason */
export const manifestForWorkflow = async (
  nodes: readonly WorkflowNode[],
  {
    file,
    environment,
    signal,
  }: { readonly file: string; readonly environment: Environment; readonly signal: AbortSignal },
): Promise<SuggestedManifest> => {
  const endpoint = registryEndpoint(environment)
  // An endpoint that the user set may be anywhere, as those of the hubs.
  const allowHosts = [...allowHostsFrom(environment), new URL(endpoint).host]
  const policy = { endpoints: endpointsFrom(environment), allowHosts }
  const { fetch, close } = createFetcher(policy)
  const commitOf = async (git: string, ref: string): Promise<string | undefined> => {
    try {
      const clock = { now: () => new Date(), sleep: (ms: number) => sleep(ms, signal) }
      const context = { ...policy, fetch, signal, clock, tokenFor: () => undefined, attempts: 2 }
      return (await askGitRef({ git, ref }, context)) ?? undefined
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof AgentError) return undefined
      throw error
    }
  }
  try {
    const registry = askRegistry({ endpoint, fetch, signal })
    return await suggestManifest(workflowNeeds(nodes), { file, registry, commitOf })
  } finally {
    close()
  }
}
