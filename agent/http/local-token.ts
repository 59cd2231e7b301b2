import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { atomicWrite } from '../platform/files.ts'
import type { Tokens } from './tokens.ts'

/**
 * The token of this box for itself: `local-token` in the state folder, readable by the agent's user alone, so that
 * agentctl works there without pairing. Made at the first start, and again when the file or its token is gone.
 */
export const ensureLocalToken = (stateFolder: string, tokens: Tokens): void => {
  const path = join(stateFolder, 'local-token')
  if (tokens.verify(readToken(path)) !== undefined) return
  for (const row of tokens.list()) if (row.name === LOCAL_NAME) tokens.revoke(row.id)
  atomicWrite(path, `${tokens.create({ name: LOCAL_NAME, scope: 'admin' }).token}\n`, { mode: 0o600 })
}

const LOCAL_NAME = 'local'

const readToken = (path: string): string => {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // Absent or unreadable: a new one is made.
    return ''
  }
}
