import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import { expect, test } from 'vitest'
import type { Attachment } from '../../../agent/processes/attach.ts'
import { forever, makeHome, planCommand, readAll, startRoom, untilState } from './kit.ts'

const signal = forever()

/** Reads a terminal until it shows a text. */
const readUntil = async (terminal: Attachment, wanted: string): Promise<string> => {
  let text = ''
  for await (const { bytes } of terminal.output) {
    text += Buffer.from(bytes).toString()
    if (text.includes(wanted)) return text
  }
  return text
}

test('a terminal shows what went before, takes what is typed, has a size, and ends with its process', async () => {
  const home = makeHome()
  const first = startRoom(home)
  const script = 'echo hello; while read -r line; do echo "<$line> $(stty size)"; done'
  await first.processes.apply([planCommand('shell', ['bash', '-c', script])], { signal })
  await first.leave()
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  const terminal = await processes.terminal('shell', { signal })
  terminal.resize(77, 33)
  terminal.write(Buffer.from('typed\n'))
  expect(await readUntil(terminal, '33 77\r\n')).toBe('hello\r\ntyped\r\n<typed> 33 77\r\n')
  const second = await processes.terminal('shell', { fromOffset: 7, signal })
  second.write(Buffer.from('\x04'))
  const rest = await readUntil(second, 'no such text')
  expect(rest).toBe('typed\r\n<typed> 33 77\r\n')
  await untilState(processes, 'shell', 'exited')
  await expect(processes.terminal('shell', { signal })).rejects.toMatchObject({
    code: 'terminal_unavailable',
  })
})

/** The shim as it is released, in a folder where node-pty cannot be found. */
const buildShimWithoutTerminal = async (folder: string): Promise<string> => {
  mkdirSync(folder)
  const outfile = join(folder, 'shim.mjs')
  await build({
    entryPoints: [join(import.meta.dirname, '../../../agent/processes/shim/main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    external: ['node-pty'],
    logLevel: 'silent',
  })
  return outfile
}

test('T15: where node-pty cannot be loaded a process runs with its log alone, and its row says why', async () => {
  const home = makeHome()
  const shimFile = await buildShimWithoutTerminal(join(home, 'release'))
  const { processes } = startRoom(home, { shimFile })
  const both = 'echo out; echo err >&2; test -t 1 || echo no terminal; sleep 1.5; exit 5'
  const plan = [
    planCommand('job', ['bash', '-c', both]),
    planCommand('service', ['bash', '-c', 'echo up; sleep 1000'], {
      restart: 'always',
      ready: { log: 'up' },
    }),
  ]
  const outcomes = await processes.apply(plan, { signal })
  expect(outcomes.map(({ state }) => state)).toEqual(['running', 'ready'])
  expect(processes.row('service').problem).toMatchObject({
    code: 'terminal_unavailable',
    severity: 'warning',
    message: expect.stringContaining('node-pty') as string,
  })
  await expect(processes.terminal('service', { signal })).rejects.toThrow(
    /no terminal, only a log: .*node-pty/,
  )
  await untilState(processes, 'job', 'failed')
  expect(processes.row('job')).toMatchObject({ exitCode: 5 })
  expect((await readAll(processes, 'job')).split('\n').sort()).toEqual(['', 'err', 'no terminal', 'out'])
  await processes.stop('service', { signal })
  expect(processes.row('service')).toMatchObject({ state: 'stopped', signal: 'SIGINT' })
})
