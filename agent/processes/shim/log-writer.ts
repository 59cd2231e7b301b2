import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { errorText, writeAllSync } from '../../platform/files.ts'
import { listLogFiles, logEnd, logFilePath, timesFile } from './log-files.ts'
import type { LogLimits } from './records.ts'

const TIME_EVERY_MS = 1_000

/**
 * Appends a process's output to files of a bounded size, and forgets the oldest when all together grow too large.
 * Goes on where the last job of this folder stopped. A full disk loses output, never the job: what cannot be written
 * is dropped, the log says how much once there is room again, and the offsets count what is on disk.
 */
export const createLogWriter = (folder: string, limits: LogLimits) => {
  let end = logEnd(folder)
  let start = listLogFiles(folder).at(-1)?.start ?? end
  let file = openSync(logFilePath(folder, start), 'a', 0o600)
  const times = openSync(timesFile(folder), 'a', 0o600)
  let lastTimeMs = -Infinity
  let lostBytes = 0
  let why = ''

  const rotate = (): void => {
    // First of all, for on a full disk it fails: then the old file goes on, and the next write tries again.
    const next = openSync(logFilePath(folder, end), 'a', 0o600)
    closeSync(file)
    file = next
    start = end
    const files = listLogFiles(folder)
    const oldest = files.find((one) => end - one.start <= limits.totalBytes)?.start ?? start
    for (const one of files) if (one.start < oldest) rmSync(one.path, { force: true })
    forgetTimesBefore(oldest)
  }

  const forgetTimesBefore = (oldest: number): void => {
    const lines = readFileSync(timesFile(folder), 'utf8').split('\n')
    writeFileSync(
      timesFile(folder),
      lines.filter((line) => line !== '' && Number(line.split(' ')[0]) >= oldest).join('\n') + '\n',
    )
  }

  /** Nobody should take the output for whole. */
  const tellLoss = (): void => {
    const notice = Buffer.from(`\r\n[gpu-agent: ${lostBytes} bytes of output are missing here: ${why}]\r\n`)
    writeAllSync(file, notice)
    end += notice.byteLength
    lostBytes = 0
  }

  return {
    end: (): number => end,
    write: (bytes: Uint8Array): void => {
      let before = end
      try {
        const nowMs = performance.now()
        if (nowMs - lastTimeMs >= TIME_EVERY_MS) {
          lastTimeMs = nowMs
          writeAllSync(times, Buffer.from(`${end} ${Date.now()}\n`))
        }
        if (lostBytes > 0) tellLoss()
        before = end
        writeAllSync(file, bytes)
        end += bytes.byteLength
        if (end - start >= limits.fileBytes) rotate()
      } catch (error) {
        // A part may have been written before the disk was full: the truth is the file's length.
        end = logEnd(folder)
        lostBytes += Math.max(0, before + bytes.byteLength - end)
        why = errorText(error)
      }
    },
    close: (): void => {
      try {
        if (lostBytes > 0) tellLoss()
      } catch {
        // Still no room: nobody will be told.
      }
      closeSync(file)
      closeSync(times)
    },
  }
}
