/*
 * commit-rows.ts FOLDER FIRST: opens the agent's database and commits one row after the other, beginning with FIRST;
 * writes a row's number to standard output only once its commit has returned. It is there to be killed.
 */
import { writeSync } from 'node:fs'
import { openDatabase } from '../../../../agent/platform/database.ts'

const [folder = '', first = '1'] = process.argv.slice(2)
const { db, quarantined } = openDatabase(folder)
if (quarantined) throw new Error(`quarantined: ${quarantined.reason}`)
db.exec('CREATE TABLE IF NOT EXISTS committed (number INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT')
const insert = db.prepare('INSERT INTO committed (number, text) VALUES (?, ?)')
for (let number = Number(first); ; number += 1) {
  insert.run(number, 'x'.repeat((number * 37) % 5000))
  writeSync(1, `${number}\n`)
  if (number % 25 === 0) db.pragma('wal_checkpoint(TRUNCATE)')
}
