import { spawnSync } from 'node:child_process'
import type { RemoteTerminal } from './session.ts'

/** ctrl-]: as telnet has it, because no program wants it. */
const DETACH = 0x1d
/** Colours off and the cursor back, whatever the process was drawing. */
const RESET = '\u001b[0m\u001b[?25h'

export type LocalTerminal = {
  /** Keys and sizes go there from now on. */
  connect(remote: RemoteTerminal): void
  /** A line of this program's own among those of the process. */
  say(line: string): void
  close(): void
}

type LocalDeps = {
  readonly stdin: NodeJS.ReadStream
  readonly stdout: NodeJS.WriteStream
  readonly stderr: NodeJS.WriteStream
  readonly onDetach: () => void
}

/** This machine's terminal, with every key for the process: also ctrl-C. Without a terminal its input as it comes. */
export const openLocalTerminal = ({ stdin, stdout, stderr, onDetach }: LocalDeps): LocalTerminal => {
  let remote: RemoteTerminal | undefined
  const onData = (bytes: Buffer): void => {
    const end = bytes.indexOf(DETACH)
    const typed = end === -1 ? bytes : bytes.subarray(0, end)
    if (typed.length > 0) remote?.type(typed)
    if (end === -1) return
    onDetach()
    remote?.detach()
  }
  const onResize = (): void => {
    if (stdout.isTTY) remote?.resize(stdout.columns, stdout.rows)
  }
  if (stdin.isTTY) {
    stdin.setRawMode(true)
    passOutputAsItIs()
  }
  stdin.on('data', onData)
  stdout.on('resize', onResize)
  return {
    connect: (to) => {
      remote = to
      onResize()
    },
    say: (line) => void stderr.write(`\r\n${line}\r\n`),
    close: () => {
      stdin.off('data', onData)
      stdout.off('resize', onResize)
      if (stdin.isTTY) stdin.setRawMode(false)
      stdin.pause()
      if (stdout.isTTY) stdout.write(RESET)
    },
  }
}

/**
 * Node leaves the terminal making CR LF of each LF. The box's terminal has done that already, and a program that draws
 * (vim, htop) moves down by a bare LF. The mode of before comes back with the rest of it.
 */
const passOutputAsItIs = (): void => {
  if (process.platform !== 'win32') spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] })
}
