import type { Problem } from '../../shared/contract/errors.ts'
import type { Clock } from '../platform/clock.ts'
import { processProblem } from './describe-end.ts'
import { proofKey, proveComfyUI } from './kinds/comfyui/prove-comfyui.ts'
import type { StoredPlan } from './planned-process.ts'

type ProofContext = {
  readonly folder: string
  /** Where in its output the job begins. */
  readonly logStart: number
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** What a running job was found to lack beyond an answer; nothing for kinds whose answer says it all. */
export const createJobProof = ({ name, proof }: Pick<StoredPlan, 'name' | 'proof'>) => {
  let found: { readonly problems: readonly Problem[]; readonly key: string } | undefined
  const errors = (): readonly Problem[] =>
    found?.problems.filter(({ severity }) => severity === 'error') ?? []
  return {
    /** One by one, warnings too. */
    findings: (): readonly Problem[] => found?.problems ?? [],
    /**
     * Everything that keeps it from being ready, in one problem; undefined when nothing does. A custom node is imported
     * at the start alone, so one that failed has failed this job: `failed`, while it still runs for who wants to look.
     */
    obstacle: (): { readonly state: 'running' | 'failed'; readonly problem: Problem } | undefined => {
      if (errors().length === 0) return undefined
      const lacks = errors().map(({ message }) => message)
      const message = `${name} answers, and is not ready: ${lacks.join('; ')}`
      const isFinal = errors().some(({ code }) => code === 'custom_node_failed')
      return {
        state: isFinal ? 'failed' : 'running',
        problem: processProblem('process_not_ready', { name, message }),
      }
    },
    /** True when it was never looked at, lacked something, or its workflows have changed since. */
    isDue: (): boolean => proof !== null && (errors().length > 0 || found?.key !== proofKey(proof)),
    /** Looks. @throws the signal's reason */
    look: async (context: ProofContext): Promise<void> => {
      if (proof === null) return
      const key = proofKey(proof)
      found = { problems: await proveComfyUI(proof, { name, ...context }), key }
    },
  }
}
export type JobProof = ReturnType<typeof createJobProof>
