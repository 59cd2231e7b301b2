import { lstat } from 'node:fs/promises'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Clock } from '../platform/clock.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { FolderWatch } from '../platform/watcher.ts'
import { watchFolders } from '../platform/watcher.ts'
import type { SyncRun } from './run-sync.ts'

/**
 * Keeps one sync going until the signal: a full comparison every `every` and at the start, a pass whenever something
 * settled or the watch rang. The watch only makes it faster: without it everything still arrives (S8, S9).
 */
export const keepSynced = async (
  run: SyncRun,
  context: { clock: Clock; log: Log; signal: AbortSignal },
): Promise<void> => {
  const { clock, log, signal } = context
  const { spec } = run.planned
  const bell = createBell(clock)
  const watch = createRootWatch(spec.path, {
    onDirty: bell.ring,
    onProblem: (message) => {
      log.warn('watching stopped; comparing goes on', { sync: spec.name, error: message })
      run.setService({ watchProblem: watchProblem(spec.name, spec.path, message) })
    },
  })
  run.setService({ watchProblem: null })
  let comparedMs = Number.NEGATIVE_INFINITY
  try {
    for (;;) {
      await watch.follow()
      const compare = clock.monotonicMs() - comparedMs >= spec.every
      if (!run.mayTry()) await run.refresh(signal).catch((error: unknown) => noteFailure(error, context))
      else {
        await run.pass({ compare, waitToSettle: false, signal })
        if (compare && run.row().consecutiveFailures === 0) comparedMs = clock.monotonicMs()
      }
      const restMs = run.restMs()
      await clock.sleep(restMs, signal)
      const waitMs = Math.min(spec.every, run.nextPassMs(clock.monotonicMs() - comparedMs))
      await bell.wait(waitMs, signal)
    }
  } finally {
    run.setService(undefined)
    await watch.close()
  }
}

const noteFailure = (error: unknown, { log, signal }: { log: Log; signal: AbortSignal }): void => {
  signal.throwIfAborted()
  log.warn('cannot look at what is to be copied', { error: errorText(error) })
}

const watchProblem = (subject: string, path: string, message: string): Problem => ({
  code: 'io_error',
  severity: 'warning',
  subject,
  message: `${path} is not watched, only compared from time to time: ${message}`,
  hint: 'Raise fs.inotify.max_user_watches where that is possible; nothing is lost without it.',
})

/** Rings are kept until somebody waits: one that comes during a pass starts the next. */
const createBell = (clock: Clock) => {
  let rung = false
  let waiter: AbortController | undefined
  return {
    ring: (): void => {
      rung = true
      waiter?.abort()
    },
    wait: async (ms: number, signal: AbortSignal): Promise<void> => {
      signal.throwIfAborted()
      waiter = new AbortController()
      try {
        if (!rung) await clock.sleep(ms, AbortSignal.any([signal, waiter.signal]))
      } catch {
        signal.throwIfAborted()
      } finally {
        rung = false
        waiter = undefined
      }
    },
  }
}

/** Watches a folder that may appear, go and be replaced: each time it is another one, the watch is made anew. */
const createRootWatch = (
  root: string,
  { onDirty, onProblem }: { onDirty: () => void; onProblem: (message: string) => void },
) => {
  let watched: { id: string; watch: FolderWatch } | undefined
  const close = async (): Promise<void> => {
    await watched?.watch.close()
    watched = undefined
  }
  return {
    close,
    follow: async (): Promise<void> => {
      const stats = await lstat(root).catch(() => undefined)
      const id = stats && `${stats.dev}:${stats.ino}`
      if (id === watched?.id) return
      await close()
      if (id !== undefined) watched = { id, watch: watchFolders(root, { onDirty, onError: onProblem }) }
    },
  }
}
