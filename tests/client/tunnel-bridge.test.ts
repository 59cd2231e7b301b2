import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import type { StatusRecord } from '../../shared/contract/records.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'
import { holds, makeCheckpoint } from '../support/checkpoint.ts'
import { attach } from '../support/attach.ts'
import { shellAndPage } from '../support/shell-and-page.ts'
import { enterPage } from '../support/enter-page.ts'
import { listeningPorts } from '../support/listening-ports.ts'
import { AGENTD } from '../support/programs.ts'
import type { SshServer } from '../support/ssh-server.ts'
import { noSshServer, startSshServer } from '../support/ssh-server.ts'

/* The real agentctl, ssh, sshd and agentd. The sshd forwards nothing at all, so that only the bridge can carry. */

const MIB = 2 ** 20
/** What a login script of a careless image prints into every command's output. */
const NOISE = 'echo "welcome to your pod"'

let home: string
let server: SshServer
let agent: AgentProcess
let env: Readonly<Record<string, string>>

const agentctl = (...args: string[]) => runAgentctl(args, { env, cwd: home })
const pair = (...args: string[]) =>
  agentctl('pair', server.target, '--name', 'box', '--agentd', join(server.folder, 'bin/agentd'), ...args)
const contextsFile = (): string => join(server.folder, 'config/gpu-agent/contexts.json')
const storedToken = (): string =>
  (JSON.parse(readFileSync(contextsFile(), 'utf8')) as { contexts: Record<string, { token: string }> })
    .contexts['box']?.token ?? ''

describe.skipIf(noSshServer !== undefined)(
  `a box reached with AGENTCTL_SSH=bridge (${noSshServer ?? 'real sshd'})`,
  () => {
    beforeAll(async () => {
      home = makeHome()
      server = await startSshServer({ config: ['DisableForwarding yes'] })
      env = { ...server.env, AGENTCTL_SSH: 'bridge' }
      agent = await startAgent({ home })
      writeFileSync(
        join(server.folder, 'bin/agentd'),
        `#!/bin/sh\n${NOISE}\nexec ${process.execPath} ${AGENTD} --home ${home} "$@"\n`,
        { mode: 0o755 },
      )
      expect(await pair()).toMatchObject({ code: 0, stderr: '' })
    })
    afterEach(async () => {
      // Of no command anything is left, neither here nor on the box, however it ended.
      await until(() => bothEnds().length === 0)
    })
    afterAll(async () => {
      await agent.kill('SIGTERM')
      await server.close()
      await removeHome(home)
    })

    test('pairing keeps where agentd lies, and status answers without a master', async () => {
      const stored = JSON.parse(readFileSync(contextsFile(), 'utf8')) as unknown
      expect(stored).toMatchObject({ contexts: { box: { agentd: join(server.folder, 'bin/agentd') } } })
      const { code, stdout } = await agentctl('status', '--json')
      expect(code).toBe(EXIT.done)
      expect((JSON.parse(stdout) as StatusRecord).agent.home).toContain(home)
      expect(readdirSync(join(server.folder, 'run/gpu-agent'))).toEqual([])
    })

    test('a command that follows has one ssh, which holds no token and listens nowhere, and which Ctrl-C takes along', async () => {
      const follow = startAgentctl(['events', '-f', '--json'], { env })
      await follow.printed('"')
      const pids = bridges()
      expect(pids).toHaveLength(1)
      for (const pid of pids) {
        const shown =
          readFileSync(`/proc/${pid}/cmdline`, 'utf8') + readFileSync(`/proc/${pid}/environ`, 'utf8')
        expect(shown).toContain('BatchMode=yes')
        expect(shown).not.toContain(storedToken().split('.')[1])
        expect(listeningPorts(pid)).toEqual([])
      }
      follow.child.kill('SIGINT')
      expect((await follow.ended).code).toBe(EXIT.interrupted)
    })

    test('what is followed goes on over another ssh after the first was killed', async () => {
      const follow = startAgentctl(['events', '-f', '--json'], { env })
      await follow.printed('"')
      for (const pid of bridges()) process.kill(pid, 'SIGKILL')
      expect((await agent.agentctl(['token', 'create', 'after', '--scope', 'read'])).code).toBe(0)
      await follow.printed('after')
      follow.child.kill('SIGINT')
      expect((await follow.ended).code).toBe(EXIT.interrupted)
    })

    test('an agentctl that is killed leaves no ssh and no bridge', async () => {
      const follow = startAgentctl(['events', '-f', '--json'], { env })
      await follow.printed('"')
      expect(bothEnds().length).toBeGreaterThan(1)
      follow.child.kill('SIGKILL')
      await until(() => bothEnds().length === 0)
    })

    test('a pull whose ssh is killed goes on', async () => {
      const made = makeCheckpoint(join(home, 'out/checkpoint-1'), { 'weights.dat': 96 * MIB }, 'checkpoint-1')
      mkdirSync(join(home, 'copy'))
      const manifest = join(home, 'm.yaml')
      writeFileSync(
        manifest,
        `version: 1\nname: m\nsync: [{name: out, path: ${home}/out, to: ${home}/copy, settle: 1s}]\n`,
      )
      expect((await agentctl('apply', manifest, '--detach')).code).toBe(EXIT.done)
      await until(async () => (await agent.agentctl(['checkpoints'])).stdout.includes('checkpoint-1'))
      const pull = startAgentctl(['pull-checkpoint', 'checkpoint-1', '--to', join(home, 'here')], { env })
      const journal = join(home, 'here/checkpoint-1.partial/journal.jsonl')
      await until(() => existsSync(journal) || pull.child.exitCode !== null)
      const killed = bridges()
      for (const pid of killed) process.kill(pid, 'SIGKILL')
      const { code, stdout, stderr } = await pull.ended
      expect({ code, stdout }, stderr).toEqual({
        code: 0,
        stdout: expect.stringContaining('verified') as string,
      })
      expect(killed.length).toBeGreaterThan(0)
      expect(holds(join(home, 'here/checkpoint-1'), made)).toBe(true)
    })

    test('attach and open work: terminals, pages, and a page’s many requests over few logins', async () => {
      const manifest = join(home, 'p.yaml')
      writeFileSync(manifest, JSON.stringify({ version: 1, name: 'p', processes: await shellAndPage() }))
      expect((await agentctl('apply', manifest)).code).toBe(EXIT.done)
      const terminal = attach('shell', { env })
      await terminal.shown('up')
      terminal.type('over a bridge\r')
      await terminal.shown('<over a bridge>')
      terminal.type('\x1d')
      expect(await terminal.ended()).toBe(EXIT.done)
      const open = startAgentctl(['open', 'page'], { env })
      await open.printed('agentctl-open=')
      const page = await enterPage(open.stdout())
      for (let times = 0; times < 5; times += 1)
        expect(await (await page('/hello')).json()).toMatchObject({ url: '/hello' })
      expect(bridges().length).toBeLessThanOrEqual(2)
      open.child.kill('SIGINT')
      await open.ended
    })

    test('another value of the switch is refused', async () => {
      const { code, stderr } = await runAgentctl(['ps'], { env: { ...env, AGENTCTL_SSH: 'brigde' } })
      expect(code).toBe(EXIT.usage)
      expect(stderr).toContain('AGENTCTL_SSH is brigde, and can only be bridge')
    })

    describe('refusals, in two lines', () => {
      beforeEach(() => server.allowKeys('taken'))

      test('an agent that is stopped is “cannot be reached”, with what to do', async () => {
        await agent.kill('SIGTERM')
        const { code, stderr } = await agentctl('ps')
        agent = await startAgent({ home })
        expect(code).toBe(EXIT.unreachable)
        expect(stderr).toMatch(
          /^error: ssh reaches .*, but no agent answers on .*agent\.sock there\ntry: Start agentd on the box.*\n$/,
        )
      })

      test('an agentd that is not there is “refused”', async () => {
        const stored = readFileSync(contextsFile(), 'utf8')
        writeFileSync(contextsFile(), stored.replace('/bin/agentd', '/bin/no-agentd'))
        const { code, stderr } = await agentctl('ps')
        writeFileSync(contextsFile(), stored)
        expect(code).toBe(EXIT.refused)
        expect(stderr).toMatch(/^error: .* has no .*no-agentd that its shell finds\ntry: .*agentctl install/)
      })

      test('words for the shell of the box in the file of contexts are refused', async () => {
        const stored = readFileSync(contextsFile(), 'utf8')
        writeFileSync(contextsFile(), stored.replace('/bin/agentd', '/bin/agentd; touch pwned'))
        const { code } = await agentctl('ps')
        writeFileSync(contextsFile(), stored)
        expect(code).toBe(EXIT.usage)
      })

      test('an agentd that knows no bridge is of another version', async () => {
        const path = join(server.folder, 'bin/agentd')
        const script = readFileSync(path, 'utf8')
        writeFileSync(path, '#!/bin/sh\necho "error: agentd does not know “bridge”" >&2\nexit 2\n')
        const { code, stderr } = await agentctl('ps')
        writeFileSync(path, script)
        expect(code).toBe(EXIT.failed)
        expect(stderr).toMatch(/^error: agentd on .* knows no bridge: .*\ntry: .*agentctl install/)
      })

      test('a key that the box does not take is “not authenticated”', async () => {
        server.allowKeys('refused')
        const { code, stderr } = await agentctl('ps')
        expect(code).toBe(EXIT.notAuthenticated)
        expect(stderr).toMatch(
          /^error: ssh does not reach .*Permission denied.*\ntry: Put your key on the box.*\n$/,
        )
        server.allowKeys('taken')
      })

      test('a machine without ssh says so', async () => {
        const { code, stderr } = await runAgentctl(['ps'], { env: { ...env, PATH: '/nonexistent' } })
        expect(code).toBe(EXIT.unreachable)
        expect(stderr).toMatch(/^error: there is no ssh on this machine\ntry: Install the OpenSSH client/)
      })

      test('a changed host key is refused, with what to do about it', async () => {
        await server.changeHostKey()
        const refused = await agentctl('status')
        expect(refused.code).toBe(EXIT.unreachable)
        const [, file = ''] =
          /try: If the box was made anew: rm (\S+), then agentctl pair/.exec(refused.stderr) ?? []
        rmSync(file)
        expect((await pair()).code).toBe(EXIT.done)
        expect((await agentctl('status')).code).toBe(EXIT.done)
      })
    })
  },
)

/** Ids of the ssh programs that carry a bridge to this agent. */
const bridges = (): number[] => bothEnds().filter((pid) => commandLine(pid).split('\0')[0]?.endsWith('ssh'))

/** The same with what sshd runs for them. */
const bothEnds = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => commandLine(pid).includes('bridge') && commandLine(pid).includes(socket()))

const socket = (): string => join(home, 'run/agent.sock')

const commandLine = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // It ended meanwhile.
    return ''
  }
}

const until = async (isTrue: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await isTrue())) await delay(5)
}
