import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { writeAllSync } from '../../platform/files.ts'
import { listLogFiles, logEnd, logFilePath, timesFile } from './log-files.ts'
import type { LogLimits } from './records.ts'

const TIME_EVERY_MS = 1_000

/**
 * Appends a process's output to files of a bounded size, and forgets the oldest when all together grow too large.
 * Goes on where the last job of this folder stopped. A full disk loses output, never the job: what cannot be written
 * is dropped, and the offsets count what is on disk.
 */
export const createLogWriter = (folder: string, limits: LogLimits) => {
  let end = logEnd(folder)
  let start = listLogFiles(folder).at(-1)?.start ?? end
  let file = openSync(logFilePath(folder, start), 'a', 0o600)
  let times = openSync(timesFile(folder), 'a', 0o600)
  let lastTimeMs = -Infinity

  const rotate = (): void => {
    closeSync(file)
    start = end
    file = openSync(logFilePath(folder, start), 'a', 0o600)
    const files = listLogFiles(folder)
    const oldest = files.find((one) => end - one.start <= limits.totalBytes)?.start ?? start
    for (const one of files) if (one.start < oldest) rmSync(one.path, { force: true })
    closeSync(times)
    forgetTimesBefore(oldest)
    times = openSync(timesFile(folder), 'a', 0o600)
  }

  const forgetTimesBefore = (oldest: number): void => {
    const lines = readFileSync(timesFile(folder), 'utf8').split('\n')
    writeFileSync(
      timesFile(folder),
      lines.filter((line) => line !== '' && Number(line.split(' ')[0]) >= oldest).join('\n') + '\n',
    )
  }

  return {
    end: (): number => end,
    write: (bytes: Uint8Array): void => {
      try {
        const nowMs = performance.now()
        if (nowMs - lastTimeMs >= TIME_EVERY_MS) {
          lastTimeMs = nowMs
          writeAllSync(times, Buffer.from(`${end} ${Date.now()}\n`))
        }
        writeAllSync(file, bytes)
        end += bytes.byteLength
        if (end - start >= limits.fileBytes) rotate()
      } catch {
        // A part may have been written before the disk was full: the truth is the file's length.
        end = logEnd(folder)
      }
    },
    close: (): void => {
      closeSync(file)
      closeSync(times)
    },
  }
}
