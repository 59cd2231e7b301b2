import { AgentError } from '../../shared/contract/errors.ts'
import type { Scope } from '../../shared/contract/states.ts'
import { scopeAllows } from '../../shared/contract/states.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'

/**
 * What only an admin may say: unsafe_env makes the programs of a box load other code than they name.
 * @param scope of the token that the manifest came with; undefined for the box's own
 * @throws AgentError forbidden
 */
export const checkScope = (manifest: Manifest, scope: Scope | undefined): void => {
  if (scope === undefined || scopeAllows(scope, 'admin')) return
  const found = Object.entries(manifest.processes).find(([, spec]) => spec.unsafe_env.length > 0)
  if (found === undefined) return
  const [name, spec] = found
  throw new AgentError(
    'forbidden',
    `processes.${name}.unsafe_env (${spec.unsafe_env.join(', ')}) needs a token with the scope admin; this one has ${scope}`,
    { hint: 'Apply it with an admin token, or take unsafe_env out.' },
  )
}
