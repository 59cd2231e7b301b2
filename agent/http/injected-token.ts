import { AgentError } from '../../shared/contract/errors.ts'
import { SCOPES } from '../../shared/contract/states.ts'
import type { Database } from '../platform/database.ts'
import type { Tokens } from './tokens.ts'

/** The variable that a box without ssh is created with. */
export const TOKEN_HASH_VARIABLE = 'AGENT_TOKEN_HASH'

const FORM = /^(?<id>[0-9a-z]{6,32}):(?<hash>[0-9a-f]{64}):(?<scope>[a-z]+)$/
const TAKEN = 'injected_token'

/**
 * Takes the token that a box was created with: its id, the SHA-256 of its secret half and its scope. The secret itself
 * never was in the box's environment, where its host could read it. Taken once: what was revoked stays revoked when
 * the box boots again, and a box that is created with another one forgets the one before.
 * @throws AgentError usage when the text is not of the form
 */
export const takeInjectedToken = (
  text: string | undefined,
  { tokens, db }: { readonly tokens: Tokens; readonly db: Database },
): void => {
  if (text === undefined) return
  const found = FORM.exec(text.trim())?.groups
  const scope = SCOPES.find((one) => one === found?.['scope'])
  if (found === undefined || scope === undefined)
    throw new AgentError('usage', `${TOKEN_HASH_VARIABLE} is not ID:SHA256:SCOPE`, {
      hint: 'agentctl token create NAME --offline prints one; no token was taken from it.',
    })
  const taken = db.prepare<[string], { value: string }>('SELECT value FROM meta WHERE key = ?').get(TAKEN)
  if (taken?.value === text.trim()) return
  const { id = '', hash = '' } = found
  const before = taken?.value.split(':', 1)[0]
  db.transaction(() => {
    for (const row of tokens.list()) if (row.id === before || row.id === id) tokens.revoke(row.id)
    tokens.admit({ id, name: 'injected', scope, secretHash: Buffer.from(hash, 'hex') })
    db.prepare('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)').run(TAKEN, text.trim())
  })()
}
