import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { spawn } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sleepAwake } from '../../client/pull/watch-checkpoint.ts'
import { serviceFiles } from '../../client/service/service-files.ts'
import { EXIT } from '../../shared/contract/errors.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { holds, makeCheckpoint } from '../support/checkpoint.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { LOCAL_TOKEN, startFixedBox } from '../support/fixed-box.ts'

let box: FixedBox
let env: Record<string, string>
beforeEach(async () => {
  box = await startFixedBox()
  mkdirSync(join(box.home, 'bin'))
  const systemctl = join(box.home, 'bin/systemctl')
  writeFileSync(systemctl, `#!/bin/sh\necho "$@" >>${box.home}/systemctl.log\n`)
  chmodSync(systemctl, 0o755)
  env = { ...box.env, PATH: `${join(box.home, 'bin')}:${process.env['PATH'] ?? ''}` }
})
afterEach(() => box.close())

const to = (): string => join(box.home, 'to 100%')
const service = (flag: string, ...args: string[]) =>
  runAgentctl(['pull-checkpoint', '--to', to(), '--every', '1s', flag, ...args], { env })
const unitFolder = (): string => join(box.home, 'config/systemd/user')
const unitText = (): string => readFileSync(join(unitFolder(), readdirSync(unitFolder())[0] ?? ''), 'utf8')
const unquote = (text: string): string[] =>
  [...text.matchAll(/"((?:\\.|[^"\\])*)"/g)].map(([, word = '']) =>
    word.replaceAll('%%', '%').replaceAll('$$', '$').replaceAll(/\\(.)/g, '$1'),
  )
const isLinux = process.platform === 'linux'

test.skipIf(!isLinux)(
  '--install-service writes a unit that works with nothing but what is in it',
  async () => {
    const { code, stdout } = await service('--install-service')
    expect(code).toBe(EXIT.done)
    expect(stdout).toContain(unitFolder())
    const unit = unitText()
    expect(unit).not.toContain(LOCAL_TOKEN)
    const [program = '', ...args] = unquote(/^ExecStart=(.*)$/m.exec(unit)?.[1] ?? '')
    expect(program).toBe(process.execPath)
    const environment = Object.fromEntries(
      [...unit.matchAll(/^Environment=(.*)$/gm)].map(([, line = '']) => unquote(line)[0]?.split('=') ?? []),
    ) as Record<string, string>
    const made = makeCheckpoint(join(box.home, 'source'), { 'model.safetensors': 1000 })
    box.records.checkpoint = made
    const running = spawn(program, args, { env: environment, cwd: '/', stdio: 'ignore' })
    const ended = new Promise((resolve) => running.once('exit', resolve))
    while (!existsSync(join(to(), 'checkpoint-500'))) await delay(50)
    running.kill('SIGTERM')
    await ended
    expect(holds(join(to(), 'checkpoint-500'), made)).toBe(true)
    expect(readFileSync(join(box.home, 'systemctl.log'), 'utf8')).toMatch(
      /^--user daemon-reload\n--user enable (gpu-agent-pull-[0-9a-f]{8}\.service)\n--user restart \1\n$/,
    )
  },
)

test.skipIf(!isLinux)('--uninstall-service ends it and removes it; a second time there is none', async () => {
  await service('--install-service')
  expect((await service('--uninstall-service')).code).toBe(EXIT.done)
  expect(readdirSync(unitFolder())).toEqual([])
  expect(readFileSync(join(box.home, 'systemctl.log'), 'utf8')).toContain('--user disable --now')
  expect((await service('--uninstall-service')).code).toBe(EXIT.notFound)
})

test.skipIf(!isLinux)('where systemd does not answer, the unit stays and the command is told', async () => {
  writeFileSync(join(box.home, 'bin/systemctl'), '#!/bin/sh\nexit 1\n')
  const { code, stderr } = await service('--install-service')
  expect(code).toBe(EXIT.failed)
  expect(stderr).toMatch(/^error: .*systemctl --user daemon-reload\ntry: .*enable-linger/)
  expect(readdirSync(unitFolder())).toHaveLength(1)
})

test.skipIf(!isLinux)('where systemd does not end it, --uninstall-service fails and tells that', async () => {
  await service('--install-service')
  writeFileSync(join(box.home, 'bin/systemctl'), '#!/bin/sh\nexit 1\n')
  const { code, stderr } = await service('--uninstall-service')
  expect(code).toBe(EXIT.failed)
  expect(stderr).toMatch(/^error: .* is removed, .*systemctl --user disable --now/)
  expect(readdirSync(unitFolder())).toEqual([])
})

test('--every without --watch is refused: a single pull would leave it out silently', async () => {
  const { code, stderr } = await runAgentctl(['pull-checkpoint', '--every', '2m'], { env })
  expect(code).toBe(EXIT.usage)
  expect(stderr).toContain('--watch')
})

test('a service for a context that is not known, or with both flags, is refused before anything is made', async () => {
  const unknown = await service('--install-service', '--context', 'nope')
  expect(unknown.code).toBe(EXIT.notFound)
  expect(unknown.stderr).toContain('there is no context nope')
  const both = await service('--install-service', '--uninstall-service')
  expect(both.code).toBe(EXIT.usage)
  expect(existsSync(unitFolder())).toBe(false)
  expect(existsSync(to())).toBe(false)
})

test('a token from the environment is not written into a service: it is refused', async () => {
  env = { ...env, AGENTCTL_TOKEN: LOCAL_TOKEN }
  expect((await service('--install-service')).code).toBe(EXIT.usage)
  expect(existsSync(unitFolder())).toBe(false)
})

const definition = {
  name: 'gpu-agent-pull-1',
  description: 'Pulls',
  argv: [
    '/opt/node 24/bin/node',
    '/opt/a&b/agentctl.js',
    '--to',
    'C:\\my models\\',
    'say "hi"',
    '100% of $HOME',
  ],
  environment: { HOME: '/Users/me' },
}
const system = { home: '/Users/me', configHome: '/Users/me/.config', userId: 501 }

test('paths with spaces, quotes, percent and dollar signs survive on every system', () => {
  const linux = serviceFiles(definition, { ...system, platform: 'linux' })
  expect(unquote(/^ExecStart=(.*)$/m.exec(linux.text)?.[1] ?? '')).toEqual(definition.argv)
  expect(linux.text).toContain('"100%% of $$HOME"')
  const mac = serviceFiles(definition, { ...system, platform: 'darwin' })
  expect(mac.path).toBe('/Users/me/Library/LaunchAgents/gpu-agent-pull-1.plist')
  expect(mac.text).toContain('<string>/opt/a&amp;b/agentctl.js</string>')
  expect(mac.text).toContain('<key>KeepAlive</key><true/>')
  expect(mac.begin).toEqual([['launchctl', 'bootstrap', 'gui/501', mac.path]])
  const windows = serviceFiles(definition, { ...system, platform: 'win32' })
  expect(windows.text).toContain('<Command>/opt/node 24/bin/node</Command>')
  expect(windows.text).toContain('&quot;C:\\my models\\\\&quot; &quot;say \\&quot;hi\\&quot;&quot;')
})

test('S52: after a machine slept, a wait that is over by the clock on the wall ends at once', async () => {
  let nowMs = 0
  const waiting = sleepAwake(8 * 3_600_000, {
    signal: AbortSignal.timeout(60_000),
    nowMs: () => (nowMs += 5 * 3_600_000),
  })
  await waiting
  expect(nowMs).toBeGreaterThanOrEqual(8 * 3_600_000)
}, 60_000)

test('S55: a watch that does not run any more is late: status shows it, and --check exits with 1', async () => {
  mkdirSync(join(box.home, 'config/gpu-agent'), { recursive: true })
  const pull = {
    box: `unix:${box.socket}`,
    name: 'latest',
    to: '/home/me/models',
    lastSuccessAt: new Date(Date.now() - 3_600_000).toISOString(),
    problem: null,
    checkpoint: 'checkpoint-1',
    digest: 'd',
  }
  const write = (everySeconds: number | null): void =>
    writeFileSync(
      join(box.home, 'config/gpu-agent/pulls.json'),
      JSON.stringify({ pulls: [{ ...pull, everySeconds }] }),
    )
  write(120)
  const late = await runAgentctl(['status', '--check'], { env })
  expect(late.code).toBe(EXIT.failed)
  expect(late.stdout).toContain('Z, 1 h')
  expect(late.stdout).toContain('late: its watch is not running')
  write(null)
  expect((await runAgentctl(['status', '--check'], { env })).code).toBe(EXIT.done)
})
