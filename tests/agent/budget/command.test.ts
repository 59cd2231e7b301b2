import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { createFindOwnBox } from '../../../agent/budget/own-box.ts'
import { planBudget } from '../../../agent/budget/planned-budget.ts'
import { stopOnce } from '../../../agent/budget/stop-box.ts'
import { createScaledClock } from '../../support/scaled-clock.ts'

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

const commands = (scripts: Readonly<Record<string, string>>): string => {
  const folder = mkdtempSync(join(tmpdir(), 'ga-stop-'))
  folders.push(folder)
  for (const [name, script] of Object.entries(scripts)) {
    writeFileSync(join(folder, name), `#!/bin/sh\ncd ${folder}\n${script}\n`)
    chmodSync(join(folder, name), 0o755)
  }
  return folder
}
const stopWith = async (folder: string, stop: { command: string[]; check?: string[] }) => {
  const clock = createScaledClock(200)
  const find = createFindOwnBox({
    lookup: () => undefined,
    send: () => Promise.reject(new Error('nobody is called')),
    clock,
    searchPath: `${folder}:/usr/bin:/bin`,
  })
  const box = find(planBudget({ on_limit: 'stop', stop }))
  if (box === null) throw new Error('no way to stop')
  return await stopOnce(box, {
    clock,
    signal: new AbortController().signal,
    objection: () => Promise.resolve(undefined),
  })
}

test('incident C1: a command after which the box still runs is a failed stop, however well it ends', async () => {
  const folder = commands({ 'stop-me': 'echo stopping' })
  await expect(stopWith(folder, { command: ['stop-me'] })).rejects.toMatchObject({
    code: 'stop_failed',
    message: 'the command stop-me was run, and this box still runs 2 min later',
  })
})

test('a command is believed once its check has changed', async () => {
  const folder = commands({ 'stop-me': 'touch down', 'is-down': 'test -e down' })
  const stop = { command: ['stop-me'], check: ['is-down'] }
  expect(await stopWith(folder, stop)).toMatchObject({ state: 'stopped' })
  const deaf = commands({ 'stop-me': 'true', 'is-down': 'test -e down' })
  await expect(stopWith(deaf, stop)).rejects.toMatchObject({ code: 'stop_failed' })
})

test('a command that fails says so, with its exit status', async () => {
  const folder = commands({ 'stop-me': 'exit 3' })
  await expect(stopWith(folder, { command: ['stop-me'] })).rejects.toThrow('stop-me ended with 3')
})

test('the command gets nothing of the agent’s environment', async () => {
  const folder = commands({
    'stop-me': 'env > seen; touch down',
    'is-down': 'test -e down && ! grep -q PLANTED seen',
  })
  process.env['PLANTED_SECRET'] = 'PLANTED'
  expect(await stopWith(folder, { command: ['stop-me'], check: ['is-down'] })).toMatchObject({
    state: 'stopped',
  })
})
