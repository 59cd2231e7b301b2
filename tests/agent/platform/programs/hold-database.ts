/* hold-database.ts FOLDER [VERSION]: opens the database, sets its version if one is given, says so, and holds it. */
import { openDatabase } from '../../../../agent/platform/database.ts'

const [folder = '', version] = process.argv.slice(2)
const { db } = openDatabase(folder)
if (version !== undefined) db.pragma(`user_version = ${Number(version)}`)
console.log('held')
setInterval(() => db.pragma('user_version'), 60_000)
