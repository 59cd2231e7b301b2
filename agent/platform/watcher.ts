import { watch } from 'chokidar'
import { errorText } from './files.ts'

export type FolderWatch = {
  /** Resolves when the first set of folders is watched. */
  readonly ready: Promise<void>
  close(): Promise<void>
}

/**
 * Says that something below `root` may have changed. Only folders are watched (one inotify watch each, not one a file),
 * and events get lost under load: a call is a hint to look, its absence means nothing.
 * @param options.onDirty called often; must be cheap and never throw
 * @param options.onError the watch is incomplete from now on (ENOSPC: no inotify watches left)
 */
export const watchFolders = (
  root: string,
  options: { onDirty: () => void; onError: (message: string) => void },
): FolderWatch => {
  const watcher = watch(root, {
    ignored: (_path, stats) => stats?.isFile() ?? false,
    followSymlinks: false,
    ignoreInitial: true,
    persistent: true,
  })
  // The only event about files in a folder whose files are not watched themselves.
  watcher.on('raw', options.onDirty)
  watcher.on('addDir', options.onDirty)
  watcher.on('unlinkDir', options.onDirty)
  // Without a listener the error of one watch would end the agent.
  watcher.on('error', (error) => options.onError(errorText(error)))
  return {
    ready: new Promise((resolve) => watcher.once('ready', resolve)),
    close: () => watcher.close(),
  }
}
