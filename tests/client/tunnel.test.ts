import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import type { StatusRecord, TokenRow } from '../../shared/contract/records.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'
import { holds, makeCheckpoint } from '../support/checkpoint.ts'
import { attach } from '../support/attach.ts'
import { shellAndPage } from '../support/shell-and-page.ts'
import { enterPage } from '../support/enter-page.ts'
import { startHub } from '../support/hub/hub.ts'
import { listeningPorts } from '../support/listening-ports.ts'
import type { SshServer } from '../support/ssh-server.ts'
import { noSshServer, startSshServer } from '../support/ssh-server.ts'
import { AGENTD } from '../support/programs.ts'

/* The real agentctl, ssh, sshd and agentd, on loopback. */

const MIB = 2 ** 20

let home: string
let server: SshServer
let agent: AgentProcess

const agentctl = (...args: string[]) => runAgentctl(args, { env: server.env, cwd: home })
/** The agent of the box as its shell finds it: a script, as the one that an installation has. */
const agentd = (): string => join(server.folder, 'bin/agentd')
const pair = (...args: string[]) =>
  agentctl('pair', server.target, '--name', 'box', '--agentd', agentd(), ...args)
const contextsFile = (): string => join(server.folder, 'config/gpu-agent/contexts.json')
const storedToken = (): string =>
  (JSON.parse(readFileSync(contextsFile(), 'utf8')) as { contexts: Record<string, { token: string }> })
    .contexts['box']?.token ?? ''
const pairedTokens = async (): Promise<TokenRow[]> => {
  const { stdout } = await agent.agentctl(['token', 'ls', '--json'])
  return (JSON.parse(stdout) as { tokens: TokenRow[] }).tokens.filter(({ name }) => name !== 'local')
}
const killMaster = (): void => {
  for (const pid of server.masters()) process.kill(pid, 'SIGKILL')
}

describe.skipIf(noSshServer !== undefined)(
  `a box reached through ssh (${noSshServer ?? 'real sshd'})`,
  () => {
    beforeAll(async () => {
      home = makeHome()
      server = await startSshServer()
      agent = await startAgent({ home })
      writeFileSync(agentd(), `#!/bin/sh\nexec ${process.execPath} ${AGENTD} --home ${home} "$@"\n`, {
        mode: 0o755,
      })
      expect(await pair()).toMatchObject({ code: 0, stderr: '' })
    })
    afterAll(async () => {
      await agent.kill('SIGTERM')
      await server.close()
      await removeHome(home)
    })

    test('pair stores the token for this user alone and remembers the host key', async () => {
      expect(statSync(contextsFile()).mode & 0o777).toBe(0o600)
      const keys = readdirSync(join(server.folder, 'config/gpu-agent/known_hosts'))
      expect(keys).toHaveLength(1)
      const listed = await agentctl('context', 'ls', '--json')
      expect(JSON.parse(listed.stdout)).toMatchObject({
        contexts: [{ name: 'box', target: `ssh://${server.target}${home}/run/agent.sock`, current: true }],
      })
      expect(listed.stdout).not.toContain(storedToken())
      expect((await pairedTokens()).map(({ scope }) => scope)).toEqual(['admin'])
    })

    test('commands share one connection, whose ends are sockets for this user alone', async () => {
      const [first] = server.masters()
      const { code, stdout } = await agentctl('status', '--json')
      expect(code).toBe(EXIT.done)
      expect((JSON.parse(stdout) as StatusRecord).agent.home).toContain(home)
      expect(server.masters()).toEqual([first])
      const folder = join(server.folder, 'run/gpu-agent')
      expect(statSync(folder).mode & 0o777).toBe(0o700)
      for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o077).toBe(0)
    })

    test('neither the token nor anything secret is in the command line or environment of ssh', () => {
      const [pid = 0] = server.masters()
      const shown =
        readFileSync(`/proc/${pid}/cmdline`, 'utf8') + readFileSync(`/proc/${pid}/environ`, 'utf8')
      expect(shown).toContain('BatchMode=yes')
      expect(shown).not.toContain(storedToken().split('.')[1])
      expect(shown).not.toContain('AGENTCTL_TOKEN')
    })

    test('case T53: neither the agent nor the connection listens on a port', () => {
      for (const pid of [agent.child.pid ?? 0, ...server.masters()]) expect(listeningPorts(pid)).toEqual([])
    })

    test('several commands at once open one connection', async () => {
      killMaster()
      const ended = await Promise.all([agentctl('ps'), agentctl('ps'), agentctl('ps')])
      expect(ended.map(({ code, stderr }) => ({ code, stderr }))).toEqual(
        Array(3).fill({ code: 0, stderr: '' }),
      )
      expect(server.masters()).toHaveLength(1)
    })

    test('a connection that died while nobody used it is opened again', async () => {
      const [before] = server.masters()
      killMaster()
      expect(await agentctl('ps')).toMatchObject({ code: EXIT.done, stderr: '' })
      expect(server.masters()).toHaveLength(1)
      expect(server.masters()).not.toEqual([before])
    })

    test('case T26: a pull whose ssh is killed goes on over a new one', async () => {
      const made = makeCheckpoint(join(home, 'out/checkpoint-1'), { 'weights.dat': 96 * MIB }, 'checkpoint-1')
      mkdirSync(join(home, 'copy'))
      const manifest = join(home, 'm.yaml')
      writeFileSync(
        manifest,
        `version: 1\nname: m\nsync: [{name: out, path: ${home}/out, to: ${home}/copy, settle: 1s}]\n`,
      )
      expect((await agentctl('apply', manifest, '--detach')).code).toBe(EXIT.done)
      await until(async () => (await agentctl('checkpoints')).stdout.includes('checkpoint-1'))
      const [before] = server.masters()
      const pull = startAgentctl(['pull-checkpoint', 'checkpoint-1', '--to', join(home, 'here')], {
        env: server.env,
      })
      const journal = join(home, 'here/checkpoint-1.partial/journal.jsonl')
      await until(() => existsSync(journal) || pull.child.exitCode !== null)
      killMaster()
      const { code, stdout, stderr } = await pull.ended
      expect({ code, stdout }, stderr).toEqual({
        code: 0,
        stdout: expect.stringContaining('verified') as string,
      })
      expect(holds(join(home, 'here/checkpoint-1'), made)).toBe(true)
      expect(server.masters()).toHaveLength(1)
      expect(server.masters()).not.toEqual([before])
    })

    test('case T26: what is followed goes on after the connection was killed', async () => {
      const follow = startAgentctl(['events', '-f', '--json'], { env: server.env })
      await delay(1_000)
      killMaster()
      const made = await agent.agentctl(['token', 'create', 'after-the-kill', '--scope', 'read'])
      expect(made.code).toBe(0)
      await follow.printed('after-the-kill')
      follow.child.kill('SIGINT')
      expect((await follow.ended).code).toBe(EXIT.interrupted)
    })

    test('attach and open work through the connection, also one that has to be opened first', async () => {
      const manifest = join(home, 'p.yaml')
      writeFileSync(manifest, JSON.stringify({ version: 1, name: 'p', processes: await shellAndPage() }))
      expect((await agentctl('apply', manifest)).code).toBe(EXIT.done)
      killMaster()
      const terminal = attach('shell', { env: server.env })
      await terminal.shown('up')
      terminal.type('over ssh\r')
      await terminal.shown('<over ssh>')
      const open = startAgentctl(['open', 'page'], { env: server.env })
      onTestFinished(() => {
        open.child.kill('SIGKILL')
      })
      await open.printed('agentctl-open=')
      const page = await enterPage(open.stdout())
      expect(await (await page('/hello')).json()).toMatchObject({ url: '/hello' })
      // The page opens the connection again by itself.
      killMaster()
      expect(await (await page('/again')).json()).toMatchObject({ url: '/again' })
    })

    test('pairing again makes a new token, and the old one is worth nothing', async () => {
      const old = storedToken()
      const others = (await pairedTokens()).length
      // Without a name it keeps the one that it has here.
      expect(await agentctl('pair', server.target, '--agentd', agentd())).toMatchObject({
        code: 0,
        stderr: '',
      })
      expect((await agentctl('context', 'ls', '--json')).stdout.match(/"name"/g)).toHaveLength(1)
      expect(storedToken()).not.toBe(old)
      expect(await pairedTokens()).toHaveLength(others)
      const env = { ...server.env, AGENTCTL_HOST: `ssh://${server.target}${home}/run/agent.sock` }
      expect((await runAgentctl(['ps'], { env: { ...env, AGENTCTL_TOKEN: old } })).code).toBe(
        EXIT.notAuthenticated,
      )
      expect((await runAgentctl(['ps'], { env: { ...env, AGENTCTL_TOKEN: storedToken() } })).code).toBe(0)
      // The token of a box that was paired need not be given.
      expect((await runAgentctl(['ps'], { env })).code).toBe(0)
    })

    test('an agent that does not run is told apart from a box that cannot be reached', async () => {
      const env = {
        ...server.env,
        AGENTCTL_HOST: `ssh://${server.target}/nowhere/agent.sock`,
        AGENTCTL_TOKEN: 'a.b',
      }
      const { code, stderr } = await runAgentctl(['ps'], { env })
      expect(code).toBe(EXIT.unreachable)
      expect(stderr).toMatch(
        /^error: ssh reaches .* but no agent answers on \/nowhere\/agent\.sock there\ntry: .+\n$/,
      )
    })

    test('a box without agentd is told so', async () => {
      const { code, stderr } = await agentctl('pair', server.target, '--agentd', 'no-agentd-here')
      expect(code).toBe(EXIT.refused)
      expect(stderr).toContain('try: Put the agent there with agentctl install')
    })

    test('doctor names the box and the way to it', async () => {
      const hub = await startHub({ files: [] })
      onTestFinished(() => hub.close())
      const env = { ...server.env, HF_ENDPOINT: hub.url, CIVITAI_ENDPOINT: hub.civitaiUrl }
      const { code, stdout } = await runAgentctl(['doctor'], { env, cwd: home })
      expect({ code, stdout }).toMatchObject({ code: 0 })
      expect(stdout).toContain(`answers at ssh://${server.target}`)
      expect(stdout).toMatch(/ssh: .*OpenSSH_/)
    })

    describe('refusals, in two lines', () => {
      afterEach(() => server.allowKeys('taken'))

      test('a key that the box does not take is “not authenticated”', async () => {
        killMaster()
        server.allowKeys('refused')
        const { code, stderr } = await agentctl('ps')
        expect(code).toBe(EXIT.notAuthenticated)
        expect(stderr).toMatch(
          /^error: ssh does not reach .*Permission denied.*\ntry: Put your key on the box.*\n$/,
        )
      })

      test('a port where nobody listens is “cannot be reached”', async () => {
        const { code, stderr } = await agentctl('pair', 'root@127.0.0.1:1')
        expect(code).toBe(EXIT.unreachable)
        expect(stderr).toMatch(/^error: .*Connection refused\ntry: Check the port.*\n$/)
      })

      test('a machine without ssh says so', async () => {
        killMaster()
        const { code, stderr } = await runAgentctl(['ps'], { env: { ...server.env, PATH: '/nonexistent' } })
        expect(code).toBe(EXIT.unreachable)
        expect(stderr).toBe(
          'error: there is no ssh on this machine\ntry: Install the OpenSSH client; boxes are reached through it.\n',
        )
      })

      test('a host that reads like an option of ssh is no address', async () => {
        expect((await agentctl('pair', '--', '-oProxyCommand=touch pwned')).code).toBe(EXIT.usage)
        expect(readdirSync(home)).not.toContain('pwned')
      })

      test('a path of agentd that a shell would read as more is refused', async () => {
        expect((await agentctl('pair', server.target, '--agentd=agentd; touch pwned')).code).toBe(EXIT.usage)
      })

      test('case T32: a changed host key is refused, with what to do about it', async () => {
        const token = storedToken()
        await server.changeHostKey()
        const refused = await agentctl('status')
        expect(refused.code).toBe(EXIT.unreachable)
        const [, file = ''] =
          /try: If the box was made anew: rm (\S+), then agentctl pair/.exec(refused.stderr) ?? []
        expect(server.masters()).toEqual([])
        expect((await pair()).code).toBe(EXIT.unreachable)
        expect(storedToken()).toBe(token)
        rmSync(file)
        expect((await pair()).code).toBe(EXIT.done)
        expect((await agentctl('status')).code).toBe(EXIT.done)
      })
    })

    test('context rm closes the connection and forgets the host key', async () => {
      expect(server.masters()).toHaveLength(1)
      expect((await agentctl('context', 'rm', 'box')).code).toBe(EXIT.done)
      await until(() => server.masters().length === 0)
      expect(readdirSync(join(server.folder, 'config/gpu-agent/known_hosts'))).toEqual([])
    })
  },
)

const until = async (isTrue: () => boolean | Promise<boolean>): Promise<void> => {
  while (!(await isTrue())) await delay(5)
}
