import { z } from 'zod'
import { AgentError } from '../../../../shared/contract/errors.ts'
import type { ProcessSpec } from '../../../../shared/manifest/schema.ts'

type ComfyUISpec = Extract<ProcessSpec, { kind: 'comfyui' }>

/** What must be true of a ComfyUI that answers before it counts as ready. */
export const ComfyUIProof = z.object({
  url: z.string(),
  workflows: z.array(z.string()).readonly(),
  /** The custom nodes of the manifest: folder, and what decides that a running ComfyUI has loaded another one. */
  nodes: z.array(z.object({ folder: z.string(), optional: z.boolean(), origin: z.string() })).readonly(),
})
export type ComfyUIProof = Readonly<z.infer<typeof ComfyUIProof>>

export const comfyuiUrl = (spec: ComfyUISpec): string => `http://127.0.0.1:${spec.port}/`

/**
 * ComfyUI on loopback alone: whoever reaches its port runs code on the box, so only the agent's door leads there.
 * @throws AgentError invalid_manifest for arguments that would change that
 */
export const comfyuiArgv = (
  name: string,
  { spec, interpreter }: { readonly spec: ComfyUISpec; readonly interpreter: string | null },
): readonly string[] => {
  // argparse takes `--listen=…` and any unambiguous beginning of an option as the option itself.
  const opened = spec.args.find((arg) => /^--(li|lis|list|liste|listen|enable-cor.*)(=|$)/.test(arg))
  if (opened !== undefined)
    throw new AgentError(
      'invalid_manifest',
      `processes.${name}.args: ${opened} is refused, because it opens ComfyUI to others`,
      { hint: `Take it out and open the page through the agent: agentctl open ${name}.` },
    )
  const port = spec.args.find((arg) => /^--po(r|rt)?(=|$)/.test(arg))
  if (port !== undefined)
    throw new AgentError('invalid_manifest', `processes.${name}.args: ${port} contradicts the key port`, {
      hint: `Write processes.${name}.port instead.`,
    })
  return [
    interpreter ?? 'python3',
    'main.py',
    '--listen',
    '127.0.0.1',
    '--port',
    String(spec.port),
    ...spec.args,
  ]
}
