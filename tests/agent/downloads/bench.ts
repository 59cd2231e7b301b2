import { createHash } from 'node:crypto'
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DownloadLimits } from '../../../agent/downloads/download-limits.ts'
import { createDownloads } from '../../../agent/downloads/downloads.ts'
import type { PlannedFile } from '../../../agent/downloads/planned-file.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import { openDatabase } from '../../../agent/platform/database.ts'
import { createHttpClient } from '../../../agent/platform/http-client.ts'
import type { AgentEvent } from '../../../shared/contract/events.ts'
import { createRecentSources } from '../../../shared/sources/recent-sources.ts'
import type { HubOptions } from '../../support/hub/hub-model.ts'
import { type Hub, startHub } from '../../support/hub/hub.ts'

export type BenchOptions = HubOptions & {
  readonly tokens?: readonly string[]
  /** The tokens the agent has; none by default. */
  readonly hfToken?: string
  readonly civitaiToken?: string
  /** Hosts that may be used although they are private. */
  readonly extraHosts?: readonly string[]
  readonly limits?: Partial<DownloadLimits>
  readonly timeouts?: { readonly bodyMs?: number; readonly headersMs?: number; readonly connectMs?: number }
}

/** A downloader with a fake hub, a fresh folder and a real database; `await using` closes and removes all of it. */
export const startBench = async (options: BenchOptions) => {
  const hub: Hub = await startHub(options)
  const folder = mkdtempSync(join(tmpdir(), 'downloads-'))
  const { db } = openDatabase(mkdtempSync(join(folder, 'state-')))
  const events: AgentEvent[] = []
  const endpoints = { hf: hub.url, civitai: hub.civitaiUrl }
  const policy = { endpoints, allowHosts: [...hub.allowHosts, ...(options.extraHosts ?? [])] }
  const http = createHttpClient({ ...policy, ...(options.timeouts ? { timeouts: options.timeouts } : {}) })
  const resolve = {
    ...policy,
    fetch: http.fetch,
    clock: systemClock,
    recent: createRecentSources(systemClock.now),
    tokenFor: (kind: 'hf' | 'civitai') => (kind === 'hf' ? options.hfToken : options.civitaiToken),
  }
  /** As after a restart of the agent: the same state, nothing remembered. */
  const makeDownloads = () =>
    createDownloads({
      db,
      resolve,
      http,
      clock: systemClock,
      report: (event) => events.push(event),
      ...(options.limits ? { limits: options.limits } : {}),
    })
  const downloads = makeDownloads()
  const modelsRoot = join(folder, 'models')

  const planned = (path: string, change: Partial<PlannedFile> = {}): PlannedFile => ({
    to: path,
    path: join(modelsRoot, path),
    root: folder,
    from: [`hf://${hub.file(path).repo}@main/${path}`],
    sha256: null,
    sizeBytes: null,
    optional: false,
    allowPickle: false,
    ...change,
  })
  const signal = new AbortController().signal
  return {
    hub,
    folder,
    modelsRoot,
    downloads,
    makeDownloads,
    events,
    resolve,
    planned,
    /** Fetches one file and gives its outcome. */
    fetch: async (file: PlannedFile, by = downloads) => (await by.fetchAll([file], { signal }))[0]!,
    sha256: (path: string) =>
      createHash('sha256')
        .update(readFileSync(join(modelsRoot, path)))
        .digest('hex'),
    exists: (path: string) => lstatSync(join(modelsRoot, path), { throwIfNoEntry: false }) !== undefined,
    /** Every file under the models root. */
    left: () => {
      try {
        return readdirSync(modelsRoot).toSorted()
      } catch {
        return []
      }
    },
    eventsOf: (type: AgentEvent['type']) => events.filter((event) => event.type === type),
    [Symbol.asyncDispose]: async () => {
      await http.close()
      await hub.close()
      db.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
