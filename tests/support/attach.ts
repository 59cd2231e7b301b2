import { setTimeout as delay } from 'node:timers/promises'
import * as pty from 'node-pty'
import { onTestFinished } from 'vitest'
import { AGENTCTL } from './programs.ts'

/** `agentctl attach NAME` on a terminal of its own; it is ended with the test. */
export const attach = (
  name: string,
  {
    env,
    size = { cols: 100, rows: 40 },
  }: {
    readonly env: Readonly<Record<string, string>>
    readonly size?: { readonly cols: number; readonly rows: number }
  },
) => {
  const terminal = pty.spawn(process.execPath, [AGENTCTL, 'attach', name], {
    ...size,
    env: { PATH: process.env['PATH'] ?? '', ...env },
  })
  let shown = ''
  let code: number | undefined
  terminal.onData((text) => (shown += text))
  terminal.onExit(({ exitCode }) => (code = exitCode))
  onTestFinished(() => {
    if (code === undefined) terminal.kill('SIGKILL')
  })
  return {
    type: (text: string) => terminal.write(text),
    resize: (columns: number, rows: number) => terminal.resize(columns, rows),
    shown: async (wanted: string): Promise<string> => {
      while (!shown.includes(wanted)) {
        if (code !== undefined) throw new Error(`agentctl ended with ${code} without “${wanted}”: ${shown}`)
        await delay(20)
      }
      return shown
    },
    ended: async (): Promise<number> => {
      while (code === undefined) await delay(20)
      return code
    },
  }
}
