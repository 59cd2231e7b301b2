import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../../agent/platform/clock.ts'
import { findProgram, runCommand } from '../../../agent/platform/commands.ts'
import { AgentError } from '../../../shared/contract/errors.ts'
import { temporaryFolder } from './temporary-folder.ts'

const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin' }
const isAlive = (pid: number): boolean => {
  try {
    // A killed process stays as a zombie until its parent looks; that counts as dead.
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await delay(20)
}

describe('runCommand', () => {
  test('gives back output, status and signal', async () => {
    const result = await runCommand(['sh', '-c', 'echo out; echo err >&2; exit 3'], { env })
    expect(result).toEqual({ exitCode: 3, signal: null, stdout: 'out\n', stderr: 'err\n', timedOut: false })
    expect(await runCommand(['sh', '-c', 'kill -9 $$'], { env })).toMatchObject({
      exitCode: null,
      signal: 'SIGKILL',
    })
  })

  test('nothing of the agent’s environment reaches the child, and arguments are no shell text', async () => {
    process.env['AGENT_PLATFORM_TEST_SECRET'] = 'inherited'
    try {
      expect((await runCommand(['/usr/bin/env'], { env: { ONLY: 'this' } })).stdout).toBe('ONLY=this\n')
    } finally {
      delete process.env['AGENT_PLATFORM_TEST_SECRET']
    }
    expect((await runCommand(['printf', '%s', '$HOME; `id` "x"'], { env })).stdout).toBe('$HOME; `id` "x"')
  })

  test('input arrives whole, and a child that does not read it does no harm', async () => {
    const input = 'line\n'.repeat(100_000)
    expect((await runCommand(['wc', '-c'], { env, input })).stdout.trim()).toBe(String(input.length))
    expect(await runCommand(['true'], { env, input })).toMatchObject({ exitCode: 0 })
  })

  test('lines are told as they come, and of long output the end is kept', async () => {
    const lines: string[] = []
    const errors: string[] = []
    const result = await runCommand(['sh', '-c', 'seq 1 5000; echo last; echo bad >&2'], {
      env,
      maxOutputBytes: 100,
      onOutputLine: (line) => lines.push(line),
      onErrorLine: (line) => errors.push(line),
    })
    expect(lines).toHaveLength(5001)
    expect(errors).toEqual(['bad'])
    expect(result.stdout).toHaveLength(100)
    expect(result.stdout.endsWith('5000\nlast\n')).toBe(true)
  })

  test.each([
    { title: 'a program that does not exist', argv: ['/no/such/program'], options: {} },
    { title: 'a folder that does not exist', argv: ['true'], options: { cwd: '/no/such/folder' } },
    { title: 'an argument that no program can take', argv: ['true', 'a\0b'], options: {} },
    { title: 'no program', argv: [], options: {} },
  ])('$title is spawn_failed', async ({ argv, options }) => {
    await expect(runCommand(argv, { env, ...options })).rejects.toMatchObject({ code: 'spawn_failed' })
  })

  /** A program whose child and grandchild write their ids, and then wait; the grandchild ignores TERM where asked. */
  const family = (folder: string, stubborn: boolean): string[] => [
    'sh',
    '-c',
    `sh -c '${stubborn ? 'trap "" TERM;' : ''} echo $$ > "$1/grandchild"; while :; do sleep 0.1; done' x "$1" & ` +
      'echo $$ > "$1/child"; wait',
    'x',
    folder,
  ]
  const pidsIn = async (folder: string): Promise<number[]> => {
    const files = ['child', 'grandchild'].map((name) => join(folder, name))
    await until(() => files.every((file) => existsSync(file) && readFileSync(file, 'utf8').endsWith('\n')))
    return files.map((file) => Number(readFileSync(file, 'utf8')))
  }

  test.each([
    { title: 'an abort ends the whole group', stubborn: false },
    { title: 'an abort ends also who ignores SIGTERM', stubborn: true },
  ])('$title and rejects with its reason', async ({ stubborn }) => {
    const folder = temporaryFolder()
    const controller = new AbortController()
    const running = runCommand(family(folder, stubborn), { env, signal: controller.signal })
    const ended = expect(running).rejects.toMatchObject({ code: 'cancelled' })
    const pids = await pidsIn(folder)
    expect(pids.map(isAlive)).toEqual([true, true])
    controller.abort(new AgentError('cancelled', 'the run was cancelled'))
    await ended
    await until(() => !pids.some(isAlive))
  })

  test('a timeout ends the whole group and is told', async () => {
    const folder = temporaryFolder()
    const running = runCommand(family(folder, false), { env, timeoutMs: 500 })
    const pids = await pidsIn(folder)
    expect(await running).toMatchObject({ timedOut: true, signal: 'SIGTERM' })
    await until(() => !pids.some(isAlive))
  })

  test('who left the group with the output in hand holds up nobody', async () => {
    const folder = temporaryFolder()
    const script = 'setsid sh -c \'echo $$ > "$1/away"; exec sleep 60\' x "$1" & wait'
    const running = runCommand(['sh', '-c', script, 'x', folder], { env, timeoutMs: 300 })
    await until(() => existsSync(join(folder, 'away')))
    expect(await running).toMatchObject({ timedOut: true })
    const away = Number(readFileSync(join(folder, 'away'), 'utf8'))
    if (isAlive(away)) process.kill(away, 'SIGKILL')
  })

  test('an abort before the start starts nothing', async () => {
    const folder = temporaryFolder()
    const signal = AbortSignal.abort(new AgentError('interrupted', 'stopping'))
    await expect(runCommand(['touch', join(folder, 'x')], { env, signal })).rejects.toMatchObject({
      code: 'interrupted',
    })
    expect(existsSync(join(folder, 'x'))).toBe(false)
  })
})

describe('findProgram', () => {
  test('takes the first that can be executed, and nothing that depends on the current folder', () => {
    const folder = temporaryFolder()
    const [one, two] = ['one', 'two'].map((name) => join(folder, name)) as [string, string]
    mkdirSync(join(one, 'folder'), { recursive: true })
    mkdirSync(two)
    writeFileSync(join(one, 'tool'), '#!/bin/sh\n', { mode: 0o644 })
    writeFileSync(join(two, 'tool'), '#!/bin/sh\n')
    chmodSync(join(two, 'tool'), 0o755)
    symlinkSync('tool', join(two, 'alias'))
    symlinkSync('nothing', join(two, 'broken'))
    const path = `::${one}:${two}:.:relative`
    expect(findProgram('tool', path)).toBe(join(two, 'tool'))
    expect(findProgram('alias', path)).toBe(join(two, 'alias'))
    for (const name of ['broken', 'folder', 'absent', '', 'sub/tool', '../two/tool', 'package.json'])
      expect(findProgram(name, path), name).toBeUndefined()
    expect(findProgram(join(two, 'tool'), '')).toBe(join(two, 'tool'))
    expect(findProgram(join(one, 'tool'), path)).toBeUndefined()
  })
})

describe('the system’s clock', () => {
  test('sleeps, and wakes with the signal’s own reason', async () => {
    const before = systemClock.monotonicMs()
    await systemClock.sleep(20)
    expect(systemClock.monotonicMs()).toBeGreaterThan(before)
    const controller = new AbortController()
    const sleeping = systemClock.sleep(600_000, controller.signal)
    controller.abort(new AgentError('cancelled', 'no longer'))
    await expect(sleeping).rejects.toMatchObject({ code: 'cancelled' })
    await expect(systemClock.sleep(1, controller.signal)).rejects.toMatchObject({ code: 'cancelled' })
  })
})
