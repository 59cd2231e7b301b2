import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import type { AgentProcess } from '../support/agent-process.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { freePort } from '../support/comfyui/stand-in.ts'
import { listeningPorts } from '../support/listening-ports.ts'
import type { SshServer } from '../support/ssh-server.ts'
import { noSshServer, startSshServer } from '../support/ssh-server.ts'
import { AGENTD } from '../support/programs.ts'

let home: string
let server: SshServer
let agent: AgentProcess

const agentctl = (...args: string[]) => runAgentctl(args, { env: server.env })
const pair = () =>
  agentctl('pair', server.target, '--name', 'box', '--agentd', join(server.folder, 'bin/agentd'))

const stored = (): unknown =>
  JSON.parse(readFileSync(join(server.folder, 'config/gpu-agent/contexts.json'), 'utf8'))

describe.skipIf(noSshServer !== undefined)(
  `a box whose sshd forwards no sockets (${noSshServer ?? 'real sshd'})`,
  () => {
    beforeAll(async () => {
      home = makeHome()
      server = await startSshServer({ config: ['AllowStreamLocalForwarding no'] })
      agent = await startAgent({ home })
      writeFileSync(
        join(server.folder, 'bin/agentd'),
        `#!/bin/sh\nexec ${process.execPath} ${AGENTD} --home ${home} "$@"\n`,
        { mode: 0o755 },
      )
    })
    afterAll(async () => {
      await agent.kill('SIGTERM')
      await server.close()
      await removeHome(home)
    })

    test('is paired with an ssh for each connection while its agent listens on no port, and says so once', async () => {
      expect(await pair()).toMatchObject({
        code: EXIT.done,
        stderr:
          'the sshd of this box forwards nothing, so each connection to its agent is an ssh of its own, which is slower\n',
      })
      expect(stored()).toMatchObject({ contexts: { box: { bridge: true } } })
      expect(await agentctl('ps')).toMatchObject({ code: EXIT.done, stderr: '' })
    })

    test('a box that was not paired so is refused, with the ways out', async () => {
      const { code, stderr } = await runAgentctl(['ps'], {
        env: { ...server.env, AGENTCTL_HOST: `ssh://${server.target}/other.sock`, AGENTCTL_TOKEN: 'a.b' },
      })
      expect(code).toBe(EXIT.unreachable)
      expect(stderr).toMatch(
        /^error: ssh reaches .*, but no agent answers on \/other\.sock there\ntry: .*AllowStreamLocalForwarding no\): pair again, or set AGENTCTL_SSH=bridge\.\n$/,
      )
    })

    test('is paired through the loopback port of its agent, pinned, with no port on this machine', async () => {
      await agent.kill('SIGTERM')
      const port = await freePort()
      agent = await startAgent({ home, args: ['--listen', `tls://127.0.0.1:${port}`] })
      expect(await pair()).toMatchObject({ code: 0, stderr: '' })
      expect(stored()).toMatchObject({ contexts: { box: { tlsPort: port } } })
      expect(stored()).not.toHaveProperty('contexts.box.bridge')
      expect((await agentctl('status', '--json')).code).toBe(EXIT.done)
      for (const pid of server.masters()) {
        expect(listeningPorts(pid)).toEqual([])
        process.kill(pid, 'SIGKILL')
      }
      expect(await agentctl('ps')).toMatchObject({ code: EXIT.done, stderr: '' })
    })

    test('an agent that is gone from its port is told apart from a box that cannot be reached', async () => {
      await agent.kill('SIGTERM')
      const { code, stderr } = await agentctl('ps')
      expect(code).toBe(EXIT.unreachable)
      expect(stderr).toMatch(/^error: ssh reaches .*, but no agent answers on port \d+ there\n/)
      agent = await startAgent({ home })
    })
  },
)
