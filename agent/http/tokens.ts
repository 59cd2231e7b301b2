import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { AgentError } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { TokenRow } from '../../shared/contract/records.ts'
import type { Scope } from '../../shared/contract/states.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'

/** What is known of a token before it is made; `expiresAt` is ISO 8601, null for ever. */
export type TokenRequest = {
  readonly name: string
  readonly scope: Scope
  readonly expiresAt?: string | null
}

export type Tokens = {
  /** Makes a token; the text `id.secret` is shown here once and is nowhere kept. */
  create(request: TokenRequest): { token: string; row: TokenRow }
  /** Takes a token that was made elsewhere, of which only the hash of its secret half came here. */
  admit(token: TokenRequest & { readonly id: string; readonly secretHash: Buffer }): TokenRow
  /** The token's row when the text is right and it has not expired, else undefined. Takes the same time either way. */
  verify(token: string): TokenRow | undefined
  list(): readonly TokenRow[]
  /** @throws AgentError not_found */
  revoke(id: string): void
}

type Row = {
  id: string
  name: string
  scope: Scope
  secret_hash: Buffer
  created_at: string
  last_used_at: string | null
  expires_at: string | null
}

/** `last_used_at` is for people; a minute's grain spares a write for every request. */
const LAST_USED_GRAIN_MS = 60_000
const NO_HASH = Buffer.alloc(32)

export const createTokens = (deps: {
  readonly db: Database
  readonly clock: Clock
  readonly report: Report
}): Tokens => {
  const { db, clock } = deps
  const byId = db.prepare<[string], Row>('SELECT * FROM tokens WHERE id = ?')
  const touch = db.prepare<[string, string]>('UPDATE tokens SET last_used_at = ? WHERE id = ?')
  const insert = db.prepare<Row>(
    `INSERT INTO tokens (id, name, scope, secret_hash, created_at, last_used_at, expires_at)
     VALUES (@id, @name, @scope, @secret_hash, @created_at, @last_used_at, @expires_at)`,
  )

  const admit: Tokens['admit'] = ({ id, name, scope, secretHash, expiresAt = null }) => {
    const row: Row = {
      id,
      name,
      scope,
      secret_hash: secretHash,
      created_at: clock.now().toISOString(),
      last_used_at: null,
      expires_at: expiresAt,
    }
    insert.run(row)
    deps.report({ type: 'token.created', subject: id, data: { name, scope, expiresAt } })
    return toRow(row)
  }

  return {
    create: (request) => {
      const id = randomBytes(6).toString('hex')
      const secret = randomBytes(32).toString('base64url')
      return { token: `${id}.${secret}`, row: admit({ ...request, id, secretHash: hash(secret) }) }
    },
    admit,
    verify: (token) => {
      const [id, secret] = token.split('.', 2)
      const row = id === undefined ? undefined : byId.get(id)
      const right = timingSafeEqual(hash(secret ?? ''), row?.secret_hash ?? NO_HASH)
      if (!right || row === undefined) return undefined
      const now = clock.now()
      if (row.expires_at !== null && now.getTime() >= Date.parse(row.expires_at)) return undefined
      if (row.last_used_at === null || now.getTime() - Date.parse(row.last_used_at) > LAST_USED_GRAIN_MS)
        touch.run(now.toISOString(), row.id)
      return toRow(row)
    },
    list: () => db.prepare<[], Row>('SELECT * FROM tokens ORDER BY created_at').all().map(toRow),
    revoke: (id) => {
      const { changes } = db.prepare('DELETE FROM tokens WHERE id = ?').run(id)
      if (changes === 0)
        throw new AgentError('not_found', `there is no token ${id}`, {
          hint: 'agentctl token ls lists their ids.',
        })
      deps.report({ type: 'token.revoked', subject: id })
    },
  }
}

const hash = (secret: string): Buffer => createHash('sha256').update(secret).digest()

const toRow = (row: Row): TokenRow => ({
  id: row.id,
  name: row.name,
  scope: row.scope,
  createdAt: row.created_at,
  lastUsedAt: row.last_used_at,
  expiresAt: row.expires_at,
})
