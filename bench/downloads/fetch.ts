/* The agent's download engine alone, as a program: fetches the files of a Served hub and exits with 0. */
import { join } from 'node:path'
import { createDownloads } from '../../agent/downloads/downloads.ts'
import { systemClock } from '../../agent/platform/clock.ts'
import { openDatabase } from '../../agent/platform/database.ts'
import { createHttpClient } from '../../agent/platform/http-client.ts'

export type FetchTask = {
  readonly url: string
  readonly dataUrl: string
  readonly names: readonly string[]
  readonly folder: string
}

const { url, dataUrl, names, folder } = JSON.parse(process.argv[2] ?? '') as FetchTask
const { db } = openDatabase(folder)
const policy = { endpoints: { hf: url, civitai: 'https://civitai.com' }, allowHosts: [new URL(dataUrl).host] }
const http = createHttpClient(policy)
const downloads = createDownloads({
  db,
  resolve: { ...policy, fetch: http.fetch, clock: systemClock, tokenFor: () => undefined },
  http,
  clock: systemClock,
  report: () => undefined,
})
const files = names.map((name) => ({
  to: name,
  path: join(folder, name),
  root: folder,
  from: [`hf://bench/files@main/${name}`],
  sha256: null,
  sizeBytes: null,
  optional: false,
  allowPickle: false,
}))
const outcomes = await downloads.fetchAll(files, { signal: new AbortController().signal })
for (const { problem } of outcomes) if (problem) console.error(problem.message)
await http.close()
db.close()
process.exitCode = outcomes.every((outcome) => outcome.state === 'done') ? 0 : 1
