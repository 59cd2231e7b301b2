import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import type { AgentProcess, Ended } from './agent-process.ts'
import { makeHome, removeHome, startAgent } from './agent-process.ts'
import type { RunningAgentctl } from './agentctl.ts'
import { runAgentctl, startAgentctl } from './agentctl.ts'
import type { FakeOptions, ProviderServer } from './providers/fake-providers.ts'
import { startProviders } from './providers/fake-providers.ts'
import type { SshServer } from './ssh-server.ts'
import { noSshServer, startSshServer } from './ssh-server.ts'
import { AGENTD } from './programs.ts'

/** Why there is no box to rent here; undefined when there is one. Providers hand out root's login. */
export const noRentedBox: string | undefined =
  noSshServer ??
  (process.getuid?.() === 0 ? undefined : 'it logs in as root, and the tests run as another user')

/**
 * A laptop, a provider, and one loopback machine that the provider hands out: a real sshd, and a real agent that starts
 * and ends with the rented machine and has its environment. One machine at a time.
 */
export type RentedBox = {
  readonly fake: ProviderServer
  readonly server: SshServer
  /** The agent's home on the box. */
  readonly home: string
  /** Where its sshd is after each start; what is not its address any more refuses connections. */
  readonly ports: readonly number[]
  /** Writes a manifest on the laptop and returns its path. */
  manifest(text: string): string
  agentctl(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ended>
  startAgentctl(args: readonly string[], env?: Readonly<Record<string, string>>): RunningAgentctl
  /** The agent dies, the machine runs on. */
  killAgent(): Promise<void>
  close(): Promise<void>
}

/**
 * @param options.image `with-agent`: its PATH has agentd and it starts at boot; `stock`: it has no trace of it
 * @param options.addresses how many addresses it has, one after the other; one by default
 * @param options.path a folder whose programs the agent finds too
 */
export const startRentedBox = async (
  options: FakeOptions & {
    readonly image?: 'with-agent' | 'stock'
    readonly path?: string
    readonly addresses?: number
  } = {},
): Promise<RentedBox> => {
  const home = makeHome()
  const hasAgent = options.image !== 'stock'
  const bin = join(home, 'bin')
  const box = join(home, 'box')
  mkdirSync(bin)
  if (hasAgent) {
    writeFileSync(join(bin, 'agentd'), `#!/bin/sh\nexec ${process.execPath} ${AGENTD} "$@"\n`)
    chmodSync(join(bin, 'agentd'), 0o755)
  }
  const path = `${bin}:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin`
  const server = await startSshServer({ env: { AGENT_HOME: box, PATH: path } })

  const sshd = Number(server.target.split(':').at(-1))
  const doors = await Promise.all(Array.from({ length: options.addresses ?? 1 }, () => openDoor(sshd)))

  let agent: AgentProcess | undefined
  let work = Promise.resolve()
  const then = (step: () => Promise<void>): Promise<void> => (work = work.then(step))
  const begin = (env: Readonly<Record<string, string>>) =>
    then(async () => {
      mkdirSync(box, { recursive: true })
      const found = [options.path ?? '', process.env['PATH'] ?? ''].join(':')
      if (hasAgent) agent = await startAgent({ home: box, env: { ...env, PATH: found } })
    })
  const end = (isDestroyed: boolean) =>
    then(async () => {
      await agent?.kill('SIGKILL')
      agent = undefined
      if (isDestroyed) await removeHome(box)
    })
  /** What the provider itself puts into a machine: its name, and a key for this machine alone. */
  const ownKey = ({ id, provider }: { id: string; provider: string }): Readonly<Record<string, string>> => {
    const { VAST_ENDPOINT = '', RUNPOD_ENDPOINT = '' } = fake.environment
    return provider === 'vast'
      ? { CONTAINER_ID: id, CONTAINER_API_KEY: `instance-key-${id}`, VAST_ENDPOINT }
      : { RUNPOD_POD_ID: id, RUNPOD_API_KEY: `instance-key-${id}`, RUNPOD_ENDPOINT }
  }
  const fake: ProviderServer = await startProviders({
    intervals: false,
    ...options,
    behaviour: {
      loadMs: 100,
      addresses: doors.map(({ port }) => ({ host: '127.0.0.1', port })),
      ...options.behaviour,
    },
    onState: ({ id, provider, state, env, starts }) => {
      if (state === 'stopped' && starts < doors.length) doors[starts - 1]?.close()
      if (state === 'running') void begin({ ...env, ...ownKey({ id, provider }) })
      if (state === 'gone' || state === 'stopped') void end(state === 'gone')
    },
  })
  // Nobody is asked outside this machine.
  const away = { HF_ENDPOINT: 'http://127.0.0.1:9', CIVITAI_ENDPOINT: 'http://127.0.0.1:9' }
  const env = { ...server.env, ...away, ...fake.environment }
  let manifests = 0
  return {
    fake,
    server,
    home: box,
    ports: doors.map(({ port }) => port),
    manifest: (text) => {
      const file = join(server.folder, `manifest-${(manifests += 1)}.yaml`)
      writeFileSync(file, text)
      return file
    },
    agentctl: (args, more) => runAgentctl(args, { env: { ...env, ...more } }),
    startAgentctl: (args, more) => startAgentctl(args, { env: { ...env, ...more } }),
    killAgent: () => end(false),
    close: async () => {
      await fake.close()
      for (const door of doors) door.close()
      await end(true)
      await server.close()
      await removeHome(home)
    },
  }
}

type Door = { readonly port: number; close(): void }

/** A port that leads to the sshd, as a provider's mapped ports do. */
const openDoor = (sshd: number): Promise<Door> =>
  new Promise((resolve) => {
    const sockets = new Set<Socket>()
    const server = createServer((outside) => {
      const inside = connect(sshd, '127.0.0.1')
      for (const [one, other] of [
        [outside, inside],
        [inside, outside],
      ] as const) {
        sockets.add(one)
        one.pipe(other)
        one.on('error', () => other.destroy())
        one.once('close', () => sockets.delete(one))
      }
    })
    server.listen(0, '127.0.0.1', () => {
      resolve({
        port: (server.address() as AddressInfo).port,
        close: () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        },
      })
    })
  })
