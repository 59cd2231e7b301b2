import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { EXIT, AgentError } from '../../shared/contract/errors.ts'
import { VERSION } from '../../shared/version.ts'
import { runAgentctl } from '../support/agentctl.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { startFixedBox } from '../support/fixed-box.ts'
import { aPlan, aProblem, aRun, aStatus } from '../support/fixed-records.ts'
import { AGENTCTL } from '../support/programs.ts'

const golden = (name: string): string => join(import.meta.dirname, '..', 'golden', `${name}.txt`)

// eslint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROLS = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/

let box: FixedBox
afterEach(() => box.close())

const startBox = async (options: { version?: string } = {}): Promise<FixedBox> =>
  (box = await startFixedBox(options))
const agentctl = (...args: string[]) => runAgentctl(args, { env: box.env, cwd: box.home })

const writeManifest = (text = 'version: 1\nname: demo\n'): string => {
  const file = join(box.home, 'demo.yaml')
  writeFileSync(file, text)
  return file
}

describe('what is printed for people', () => {
  test('status shows a healthy box on one screen', async () => {
    await startBox()
    const { code, stdout, stderr } = await agentctl('status')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    await expect(stdout).toMatchFileSnapshot(golden('status-healthy'))
  })

  test('status of a box in trouble says so first and lists what to do, worst first', async () => {
    await startBox()
    const status = aStatus()
    const late = aProblem({
      code: 'sync_late',
      severity: 'warning',
      subject: 'checkpoints',
      message: 'is late',
      hint: 'Run it now.',
    })
    const run = aRun({ state: 'degraded', endedAt: status.agent.startedAt })
    box.records.status = { ...status, run, healthy: false, problems: [late, aProblem({})] }
    const { code, stdout } = await agentctl('status')
    expect(code).toBe(0)
    await expect(stdout).toMatchFileSnapshot(golden('status-unhealthy'))
  })

  test('ps shows the processes', async () => {
    await startBox()
    await expect((await agentctl('ps')).stdout).toMatchFileSnapshot(golden('ps'))
  })

  test('plan shows every change and exits with 0 when there are only warnings', async () => {
    await startBox()
    const { code, stdout } = await agentctl('plan', writeManifest())
    expect(code).toBe(0)
    await expect(stdout).toMatchFileSnapshot(golden('plan'))
  })

  test('a manifest is read from standard input where it is called -', async () => {
    await startBox()
    const given = { env: box.env, input: 'version: 1\nname: demo\n' }
    expect((await runAgentctl(['plan', '-'], given)).code).toBe(0)
    expect(box.requests.some(({ method, url }) => method === 'POST' && url === '/v1/plan')).toBe(true)
    const wrong = await runAgentctl(['manifest', 'check', '-'], {
      ...given,
      input: 'version: 1\nnam: demo\n',
    })
    expect(wrong.code).toBe(EXIT.refused)
    expect(wrong.stderr).toMatch(/^error: standard input:2:1: unknown key “nam”/)
  })

  test('plan with errors groups them by what repairs them, with file, line and column, and exits with 3', async () => {
    await startBox()
    const at = (line: number) => ({ file: 'demo.yaml', line, column: 5 })
    const gated = { code: 'gated', hint: 'Accept the terms.', message: 'needs its terms accepted' } as const
    box.records.plan = aPlan({
      problems: [
        aProblem({
          code: 'unpinned_ref',
          severity: 'warning',
          subject: 'node',
          message: 'main is a branch',
          hint: 'Pin it.',
        }),
        aProblem({ ...gated, subject: 'b.safetensors', at: at(9) }),
        aProblem({
          code: 'disk_too_small',
          subject: '/',
          message: 'needs 9.0 GB',
          hint: 'Free it.',
          at: at(7),
        }),
        aProblem({
          ...gated,
          subject: 'a.safetensors',
          at: at(3),
          subjects: ['a.safetensors', 'c.safetensors'],
        }),
      ],
    })
    const { code, stderr } = await agentctl('plan', writeManifest())
    expect(code).toBe(EXIT.refused)
    await expect(stderr).toMatchFileSnapshot(golden('plan-errors'))
  })

  test('a plan that is refused does not say that nothing would change', async () => {
    await startBox()
    const none = {
      downloads: [],
      python: [],
      processes: [],
      later: [],
      left: { files: [], packages: [] },
    }
    box.records.plan = aPlan({ changes: none, unchecked: [] })
    expect((await agentctl('plan', writeManifest())).stdout).toBe('nothing would change\n')
    box.records.plan = aPlan({ changes: none, unchecked: [], problems: [aProblem({ code: 'gated' })] })
    expect(await agentctl('plan', writeManifest())).toMatchObject({ code: EXIT.refused, stdout: '' })
  })

  test('help groups the commands and lists the exit statuses', async () => {
    await startBox()
    const { code, stdout } = await agentctl('--help')
    expect(code).toBe(0)
    await expect(stdout).toMatchFileSnapshot(golden('help'))
  })
})

test('texts of the program itself are one document too with --json', async () => {
  for (const [args, says] of [
    [['help'], 'Usage: agentctl'],
    [['status', '--help'], 'the whole box on one screen'],
    [['--version'], VERSION],
  ] as const) {
    const { stdout } = await runAgentctl([...args, '--json'], { env: {} })
    expect((JSON.parse(stdout) as { text: string }).text).toContain(says)
  }
})

test('help of a command that does not exist names it', async () => {
  const { code, stderr } = await runAgentctl(['help', 'stauts'], { env: {} })
  expect({ code, stderr }).toEqual({
    code: EXIT.usage,
    stderr: 'error: there is no command stauts\ntry: agentctl help lists the commands.\n',
  })
})

test('guard ends when --timeout has passed, as everything that goes on for ever', async () => {
  const { code, stderr } = await runAgentctl(['guard', '--timeout', '300ms'], {
    env: { HOME: '/nonexistent' },
  })
  expect(stderr).toContain('error: the 0.3 s of --timeout have passed')
  expect(code).toBe(EXIT.deadline)
})

describe('output', () => {
  test.each([
    { name: 'status', args: ['status'], key: 'agent' },
    { name: 'ps', args: ['ps'], key: 'processes' },
    { name: 'runs', args: ['runs'], key: 'runs' },
    { name: 'models', args: ['models'], key: 'models' },
    { name: 'sync', args: ['sync', '--now'], key: 'sync' },
    { name: 'checkpoints', args: ['checkpoints'], key: 'checkpoints' },
    { name: 'events', args: ['events'], key: 'events' },
    { name: 'restart', args: ['restart', 'comfyui'], key: 'process' },
    { name: 'logs', args: ['logs', 'comfyui'], key: 'lines' },
    { name: 'wait', args: ['wait', 'prepare'], key: 'process' },
    { name: 'token ls', args: ['token', 'ls'], key: 'tokens' },
    { name: 'secret ls', args: ['secret', 'ls'], key: 'secrets' },
    { name: 'token create', args: ['token', 'create', 'ci', '--scope', 'operate'], key: 'token' },
    { name: 'token create --name', args: ['token', 'create', '--name', 'ci'], key: 'token' },
    { name: 'context ls', args: ['context', 'ls'], key: 'contexts' },
    { name: 'version', args: ['version'], key: 'agentctl' },
    { name: 'completion', args: ['completion', 'bash'], key: 'script' },
    { name: 'manifest schema', args: ['manifest', 'schema'], key: '$schema' },
  ])('$name --json prints one JSON document and nothing else', async ({ args, key }) => {
    await startBox()
    const { code, stdout } = await agentctl(...args, '--json')
    expect(code).toBe(EXIT.done)
    expect(JSON.parse(stdout)).toHaveProperty([key])
    expect(stdout.trimEnd().split('\n')).toHaveLength(1)
  })

  test('status --json is the agent’s record with what this machine pulls', async () => {
    await startBox()
    const { stdout } = await agentctl('status', '--json')
    expect(JSON.parse(stdout)).toEqual({ ...aStatus(), pulls: [] })
  })

  test('text from the box cannot drive the terminal', async () => {
    await startBox()
    const hostile = 'x\u001b]0;owned\u0007\u001b[2J\u009b31m\u202e\r\ny'
    box.records.processes = box.records.processes.map((row) => ({ ...row, url: hostile }))
    box.records.logs = `${hostile}\n`
    box.records.status = {
      ...aStatus(),
      problems: [aProblem({ message: hostile, hint: hostile, subject: hostile })],
    }
    box.addEvent({ at: aStatus().agent.startedAt, type: 'run.created', subject: hostile, data: { hostile } })
    for (const args of [['ps'], ['status'], ['events'], ['logs', 'comfyui']]) {
      const { stdout, stderr } = await agentctl(...args)
      expect(`${stdout}${stderr}`, args.join(' ')).not.toMatch(CONTROLS)
      // The journal shows data as JSON, where an escape sequence is spelled out and does nothing.
      if (args[0] !== 'events') expect(stdout).not.toContain('owned')
    }
    box.records.refusal = new AgentError('internal', hostile, { hint: hostile })
    expect((await agentctl('status')).stderr.split('\n')).toHaveLength(3)
  })

  test.each([
    { name: 'NO_COLOR is set', args: [], env: { NO_COLOR: '1' }, coloured: false },
    { name: '--no-color is given', args: ['--no-color'], env: {}, coloured: false },
    { name: 'nothing forbids them', args: [], env: {}, coloured: true },
  ])('on a terminal, when $name, colours: $coloured', async ({ args, env, coloured }) => {
    await startBox()
    const { spawn } = await import('node-pty')
    const shown = await new Promise<string>((resolve) => {
      const terminal = spawn(process.execPath, [AGENTCTL, 'status', ...args], {
        env: { PATH: process.env['PATH'] ?? '', ...box.env, ...env },
        cols: 120,
      })
      let text = ''
      terminal.onData((data) => (text += data))
      terminal.onExit(() => resolve(text))
    })
    expect(shown).toContain('healthy')
    expect(shown.includes('\u001b[')).toBe(coloured)
  })

  test('a pipe gets no colours', async () => {
    await startBox()
    expect((await agentctl('status')).stdout).not.toContain('\u001b')
  })

  test('logs prints lines as a terminal would show them, and --raw the bytes as they are', async () => {
    await startBox()
    box.records.logs = 'one\r\n 10 %\r 90 %\r\n\u001b[31mred\u001b[0m\n'
    expect((await agentctl('logs', 'comfyui')).stdout).toBe('one\n 90 %\nred\n')
    expect((await agentctl('logs', 'comfyui', '--raw')).stdout).toBe(box.records.logs)
    expect((await agentctl('logs', 'comfyui', '--tail', '1')).stdout).toBe('red\n')
  })

  test('T45: lines of logs --json are as clean as those for people, and only --raw keeps what a terminal obeys', async () => {
    await startBox()
    box.records.logs = 'a\tb\u001b]52;c;aGk=\u0007\n\u001b[31mred\u001b[0m'
    expect((await agentctl('logs', 'comfyui')).stdout).toBe('a\tb\nred\n')
    const lines = async (...args: readonly string[]): Promise<unknown> =>
      JSON.parse((await agentctl('logs', 'comfyui', '--json', ...args)).stdout)
    expect(await lines()).toEqual({ lines: ['a\tb', 'red'] })
    expect(await lines('--raw')).toEqual({
      lines: ['a\tb\u001b]52;c;aGk=\u0007', '\u001b[31mred\u001b[0m'],
    })
  })

  test.each([
    { version: '0.2.0', word: 'older' },
    { version: '0.0.9', word: 'newer' },
  ])('a client that is $word than agent $version is told so, once', async ({ version, word }) => {
    await startBox({ version })
    const { code, stdout, stderr } = await agentctl('version')
    expect(code).toBe(0)
    expect(stdout).toContain('agentctl 0.1.0')
    expect(
      stderr.match(new RegExp(`${word} than the agent ${version.replaceAll('.', '\\.')}`, 'g')),
    ).toHaveLength(1)
  })
})
