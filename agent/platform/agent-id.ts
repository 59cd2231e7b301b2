import { randomBytes } from 'node:crypto'
import type { Database } from './database.ts'

/** The agent's name for itself, 16 hexadecimal digits: made once, kept with the state. */
export const readAgentId = (db: Database): string => {
  db.prepare('INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)').run(
    'agent_id',
    randomBytes(8).toString('hex'),
  )
  return (
    db.prepare<[string], { value: string }>('SELECT value FROM meta WHERE key = ?').get('agent_id')?.value ??
    ''
  )
}
