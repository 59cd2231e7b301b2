import { join } from 'node:path'
import { freePort } from './comfyui/stand-in.ts'

const PAGE = join(import.meta.dirname, '../fixtures/bin/echo-page.ts')
const ECHO = 'stty -echo; echo up; while read -r line; do echo "<$line>"; done'

/** Two processes for a manifest: `shell` says `up`, then each line that is typed; `page` answers with what it was asked. */
export const shellAndPage = async () => {
  const port = await freePort()
  return {
    shell: { kind: 'command', command: ['bash', '-c', ECHO] },
    page: {
      kind: 'command',
      restart: 'always',
      command: [process.execPath, PAGE, String(port)],
      ready: { http: `http://127.0.0.1:${port}/` },
    },
  }
}
