import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { ERROR_CODES, EXIT, AgentError } from '../../shared/contract/errors.ts'
import type { ErrorCode, Problem } from '../../shared/contract/errors.ts'
import { VERSION } from '../../shared/version.ts'
import { runAgentctl } from '../support/agentctl.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { LOCAL_TOKEN, startFixedBox } from '../support/fixed-box.ts'
import { aPlan, aRun, aStatus } from '../support/fixed-records.ts'
import { startHub } from '../support/hub/hub.ts'
import { AGENTCTL } from '../support/programs.ts'

const golden = (name: string): string => join(import.meta.dirname, '..', 'golden', `${name}.txt`)

/** The first code of each exit status in the table. */
const ONE_CODE_PER_STATUS = Object.entries(ERROR_CODES)
  .filter(([, { exit }], index, all) => all.findIndex(([, other]) => other.exit === exit) === index)
  .map(([name]) => ({ name }))

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

const problem = (change: Partial<Problem>): Problem => ({
  code: 'process_failed',
  severity: 'error',
  subject: 'comfyui',
  message: 'ended with status 1',
  hint: 'Read its output: agentctl logs comfyui.',
  ...change,
})

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
    const late = problem({
      code: 'sync_late',
      severity: 'warning',
      subject: 'checkpoints',
      message: 'is late',
      hint: 'Run it now.',
    })
    const run = aRun({ state: 'degraded', endedAt: status.agent.startedAt })
    box.records.status = { ...status, run, healthy: false, problems: [late, problem({})] }
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
        problem({
          code: 'unpinned_ref',
          severity: 'warning',
          subject: 'node',
          message: 'main is a branch',
          hint: 'Pin it.',
        }),
        problem({ ...gated, subject: 'b.safetensors', at: at(9) }),
        problem({
          code: 'disk_too_small',
          subject: '/',
          message: 'needs 9.0 GB',
          hint: 'Free it.',
          at: at(7),
        }),
        problem({
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
    box.records.plan = aPlan({ changes: none, unchecked: [], problems: [problem({ code: 'gated' })] })
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

describe('exit statuses and errors', () => {
  test.each(ONE_CODE_PER_STATUS)(
    'an agent that answers $name gives its exit status and two lines',
    async ({ name }) => {
      await startBox()
      const code = name as ErrorCode
      box.records.refusal = new AgentError(code, `it is ${name}`, { hint: 'Do this.' })
      const ended = await agentctl('status')
      expect(ended.code).toBe(ERROR_CODES[code].exit)
      expect(ended.stderr).toBe(`error: it is ${name}\ntry: Do this.\n`)
      expect(ended.stdout).toBe('')
    },
  )

  test('with --json the error is one document on standard output, with its problems', async () => {
    await startBox()
    box.records.refusal = new AgentError('plan_has_errors', 'one error', { problems: [problem({})] })
    const { code, stdout, stderr } = await agentctl('apply', writeManifest(), '--json')
    expect({ code, stderr }).toEqual({ code: EXIT.refused, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: 'plan_has_errors',
        message: 'one error',
        hint: ERROR_CODES.plan_has_errors.hint,
        problems: [problem({})],
      },
    })
  })

  test('a box that is not there is 5, with what to do', async () => {
    await startBox()
    await box.stop()
    const { code, stderr } = await agentctl('ps')
    expect(code).toBe(EXIT.unreachable)
    expect(stderr).toMatch(/^error: cannot reach the agent at unix:.*\ntry: .*doctor\.\n$/)
  })

  test('a wrong token is 4', async () => {
    await startBox()
    const env = { ...box.env, AGENTCTL_TOKEN: 'wrong.token' }
    const { code, stderr } = await runAgentctl(['status'], { env })
    expect(code).toBe(EXIT.notAuthenticated)
    expect(stderr).toMatch(/^error: .*\ntry: .*\n$/)
  })

  test('an agent that does not answer within --timeout is 7', async () => {
    await startBox()
    box.intercept = () => true
    const { code, stderr } = await agentctl('status', '--timeout', '300ms')
    expect(code).toBe(EXIT.deadline)
    expect(stderr).toContain('did not answer within 0.3 s')
  })

  test('a process, a run and a context that do not exist are 6', async () => {
    await startBox()
    expect((await agentctl('start', 'nothing')).code).toBe(EXIT.notFound)
    expect((await agentctl('run', 'show', 'nothing')).code).toBe(EXIT.notFound)
    expect((await agentctl('context', 'use', 'nothing')).code).toBe(EXIT.notFound)
  })

  test.each([
    { name: 'no command', args: [] },
    { name: 'an unknown command', args: ['stats'] },
    { name: 'an unknown option', args: ['status', '--colour'] },
    { name: 'a missing argument', args: ['logs'] },
    { name: 'an argument too many', args: ['ps', 'comfyui'] },
    { name: 'a family without its member', args: ['token'] },
    { name: 'a duration that is none', args: ['status', '--timeout', 'soon'] },
    { name: 'two names for a token', args: ['token', 'create', 'me', '--name', 'you'] },
    { name: 'a scope that is none', args: ['token', 'create', 'me', '--scope', 'root'] },
    { name: 'a manifest that is not there', args: ['apply', 'nowhere.yaml'] },
    { name: 'an address that is none', args: ['pair', 'ftp://box'] },
  ])('$name is a usage error: 2, and two lines', async ({ args }) => {
    await startBox()
    const { code, stdout, stderr } = await agentctl(...args)
    expect({ code, stdout }).toEqual({ code: EXIT.usage, stdout: '' })
    expect(stderr).toMatch(/^error: .+\ntry: .+\n$/)
    const json = await agentctl(...args, '--json')
    expect(json.code).toBe(EXIT.usage)
    expect((JSON.parse(json.stdout) as { error: { code: string } }).error.code).toBe('usage')
    expect(json.stderr).toBe('')
  })

  test('an answer that is not the agent’s is no success', async () => {
    await startBox()
    box.intercept = (_, response) => {
      response.end('<html>')
      return true
    }
    const { code, stderr } = await agentctl('ps')
    expect(code).toBe(EXIT.unreachable)
    expect(stderr).toContain('not JSON')
  })

  test('status --check exits with 1 unless everything is healthy', async () => {
    await startBox()
    expect((await agentctl('status', '--check')).code).toBe(EXIT.done)
    box.records.status = { ...aStatus(), healthy: false }
    expect((await agentctl('status', '--check')).code).toBe(EXIT.failed)
    expect((await agentctl('status')).code).toBe(EXIT.done)
  })

  test('wait exits as the process ended', async () => {
    await startBox()
    expect((await agentctl('wait', 'prepare')).code).toBe(EXIT.done)
    box.records.processes = box.records.processes.map((row) => ({ ...row, state: 'failed', exitCode: 3 }))
    expect((await agentctl('wait', 'prepare')).code).toBe(EXIT.failed)
    box.records.processes = box.records.processes.map((row) => ({ ...row, startedAt: null, exitCode: null }))
    const never = await agentctl('wait', 'prepare')
    expect(never).toMatchObject({ code: EXIT.failed, stdout: 'prepare: failed, it was never started\n' })
  })
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
      problems: [problem({ message: hostile, hint: hostile, subject: hostile })],
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

describe('secrets', () => {
  test('secret set takes the value from standard input, and only names are ever shown', async () => {
    await startBox()
    const set = await runAgentctl(['secret', 'set', 'HF_TOKEN'], { env: box.env, input: 'hf_value\n' })
    expect(set).toMatchObject({ code: 0, stderr: '' })
    const listed = await agentctl('secret', 'ls')
    expect(listed.stdout).toBe('HF_TOKEN\n')
    expect((await agentctl('secret', 'rm', 'HF_TOKEN')).code).toBe(0)
    expect((await agentctl('secret', 'ls', '--json')).stdout).toBe('{"secrets":[]}\n')
    expect(box.requests.map(({ url }) => url).join()).not.toContain('hf_value')
  })

  test('secret set without a value is a usage error', async () => {
    await startBox()
    expect((await agentctl('secret', 'set', 'HF_TOKEN')).code).toBe(EXIT.usage)
  })
})

describe('contexts', () => {
  test('pair stores a context that is used from then on, readable by its user alone', async () => {
    await startBox()
    const env = { XDG_CONFIG_HOME: join(box.home, 'config'), HOME: box.home }
    const paired = await runAgentctl(['pair', `unix:${box.socket}`, '--name', 'mine'], {
      env,
      input: `${LOCAL_TOKEN}\n`,
    })
    expect(paired).toMatchObject({ code: 0, stderr: '' })
    const file = join(box.home, 'config', 'gpu-agent', 'contexts.json')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect((await runAgentctl(['status'], { env })).code).toBe(0)
    const listed = await runAgentctl(['context', 'ls', '--json'], { env })
    expect(JSON.parse(listed.stdout)).toEqual({
      contexts: [{ name: 'mine', target: `unix:${box.socket}`, agentId: 'a1b2c3', current: true }],
    })
    expect(listed.stdout).not.toContain(LOCAL_TOKEN)
    expect((await runAgentctl(['context', 'rm', 'mine'], { env })).code).toBe(0)
    expect(readFileSync(file, 'utf8')).not.toContain(LOCAL_TOKEN)
    expect((await runAgentctl(['status', '--context', 'mine'], { env })).code).toBe(EXIT.notFound)
  })

  test('pair reads what agentd pair --json prints', async () => {
    await startBox()
    const env = { XDG_CONFIG_HOME: join(box.home, 'config'), HOME: box.home }
    const input = JSON.stringify({ agentId: 'a1b2c3', token: LOCAL_TOKEN })
    const { code, stdout } = await runAgentctl(['pair', `unix:${box.socket}`], { env, input })
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'paired with gpu-7; commands are about gpu-7 now\n' })
  })

  test('pair with a wrong token stores nothing', async () => {
    await startBox()
    const env = { XDG_CONFIG_HOME: join(box.home, 'config'), HOME: box.home }
    const { code } = await runAgentctl(['pair', `unix:${box.socket}`], { env, input: 'wrong.token' })
    expect(code).toBe(EXIT.notAuthenticated)
    expect((await runAgentctl(['context', 'ls', '--json'], { env })).stdout).toBe('{"contexts":[]}\n')
  })

  test('AGENTCTL_HOST and AGENTCTL_TOKEN say which box', async () => {
    await startBox()
    const env = { HOME: '/nonexistent', AGENTCTL_HOST: `unix:${box.socket}`, AGENTCTL_TOKEN: LOCAL_TOKEN }
    expect((await runAgentctl(['ps'], { env })).code).toBe(0)
  })

  test('an https address without a pin is refused before anything is asked', async () => {
    await startBox()
    const host = 'https://box:7000'
    const { code, stderr } = await runAgentctl(['ps'], { env: { ...box.env, AGENTCTL_HOST: host } })
    expect(code).toBe(EXIT.usage)
    expect(stderr).toBe(
      'error: https://box:7000: the pin of its certificate is not known here\ntry: Pair with it: agentctl pair https://box:7000 --pin PIN; or set AGENTCTL_PIN.\n',
    )
  })

  test('doctor names what is wrong with its repair and exits with 1', async () => {
    await startBox()
    const hub = await startHub({ files: [] })
    onTestFinished(() => hub.close())
    const env = { ...box.env, HF_ENDPOINT: hub.url, CIVITAI_ENDPOINT: hub.civitaiUrl }
    expect((await runAgentctl(['doctor'], { env })).code).toBe(0)
    await box.stop()
    const { code, stdout } = await runAgentctl(['doctor', '--json'], { env })
    expect(code).toBe(EXIT.failed)
    const { checks } = JSON.parse(stdout) as { checks: { check: string; fix: string | null }[] }
    expect(checks.find(({ check }) => check === 'agent')?.fix).toContain('Start agentd')
    expect(checks.find(({ check }) => check === 'node')?.fix).toBeNull()
  })
})
