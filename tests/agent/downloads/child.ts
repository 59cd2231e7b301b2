/*
 * A downloader as a process of its own, to be killed: node child.ts <json>. Fetches one file and exits with 0 when it
 * is there.
 */
import type { DownloadLimits } from '../../../agent/downloads/download-limits.ts'
import { createDownloads } from '../../../agent/downloads/downloads.ts'
import type { PlannedFile } from '../../../agent/downloads/planned-file.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openDatabase } from '../../../agent/platform/database.ts'
import { createHttpClient } from '../../../agent/platform/http-client.ts'
import type { AddressPolicy } from '../../../shared/sources/address-policy.ts'

export type ChildTask = {
  readonly state: string
  readonly file: PlannedFile
  readonly policy: AddressPolicy
  readonly limits?: Partial<DownloadLimits>
}

const { state, file, policy, limits } = JSON.parse(process.argv[2] ?? '') as ChildTask
const { db } = openDatabase(state)
const http = createHttpClient(policy)
const downloads = createDownloads({
  db,
  resolve: { ...policy, fetch: http.fetch, clock: systemClock, tokenFor: () => undefined },
  http,
  clock: systemClock,
  report: () => undefined,
  ...(limits ? { limits } : {}),
})
const [outcome] = await downloads.fetchAll([file], { signal: new AbortController().signal })
await http.close()
db.close()
process.exitCode = outcome?.state === 'done' ? 0 : 1
