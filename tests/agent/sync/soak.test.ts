import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, onTestFailed, onTestFinished, test } from 'vitest'
import type { StatusRecord } from '../../../shared/contract/records.ts'
import type { AgentProcess } from '../../support/agent-process.ts'
import { makeHome, removeHome, startAgent } from '../../support/agent-process.ts'
import { findRclone, serveS3 } from '../../support/rclone.ts'
import type { TrainerLine, TrainerOptions } from './support/fake-trainer.ts'
import { createRandom } from './support/random.ts'
import { safetensors, until } from './support/sync-box.ts'
import { AGENTCTL } from '../../support/programs.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined
const KEY = { key: 'soak-key', secret: 'soak-secret-value' }
const CHECKPOINTS = 500
const SEED = Number(process.env['SOAK_SEED'] ?? '20261122')

type Version = { readonly name: string; readonly files: Readonly<Record<string, string>>; livedMs: number }

test.skipIf(skipped)(
  `soak: ${CHECKPOINTS} checkpoints under random kills of agent, rclone and client all arrive bit for bit, none by halves${skipped ? ` (skipped: ${rclone.reason})` : ''}`,
  async () => {
    const home = makeHome()
    const remote = join(home, 'remote')
    const laptop = join(home, 'laptop')
    const folder = join(home, 'out')
    for (const path of [join(remote, 'bucket'), laptop, folder]) mkdirSync(path, { recursive: true })
    const server = await serveS3(rclone.path ?? '', { folder: remote, ...KEY, isAlone: true })
    const world = createWorld(home)
    onTestFinished(async () => {
      await world.end()
      await server.close()
      await removeHome(home)
    })
    onTestFailed(() => console.error(`seed ${SEED}`, world.log().slice(-4_000)))
    writeFileSync(join(home, 'soak.yaml'), manifestOf(home, server.url))
    await world.startAgent()
    const applied = await world.agentctl(['apply', join(home, 'soak.yaml')])
    expect(applied.code, applied.stderr).toBe(0)

    // How long one checkpoint takes from its save to its record sets the pace: the machine may be slow.
    const startedMs = performance.now()
    mkdirSync(join(folder, 'checkpoint-0'))
    writeFileSync(join(folder, 'checkpoint-0/model.safetensors'), safetensors('first'))
    writeFileSync(join(folder, 'checkpoint-0/trainer_state.json'), '{"global_step": 0}')
    const stored = join(remote, 'bucket/run')
    await until(() => existsSync(join(stored, '.gpu-agent/checkpoint-0.json')))
    const onceMs = performance.now() - startedMs

    world.startClient(laptop)
    const journal = join(home, 'journal')
    const lifeMs = 4_000 + 8 * onceMs
    const trainer = runTrainer({ folder, journal, seed: SEED, count: CHECKPOINTS, paceMs: 40, lifeMs })
    const kills = await world.killAtRandom({ while: trainer.isRunning, pauseMs: 0.6 * onceMs })
    expect(await trainer.ended).toBe(0)
    expect(Math.min(kills.agent, kills.rclone, kills.client), JSON.stringify(kills)).toBeGreaterThan(0)
    await until(async () => (await world.agentctl(['sync', '--now'])).code === 0)
    // A warning of one that was removed before it could be copied may stand.
    expect(await world.sync()).toMatchObject({ pendingFiles: 0, consecutiveFailures: 0 })

    const versions = readVersions(journal)
    expect(versions.length).toBeGreaterThan(CHECKPOINTS * 0.9)
    const folders = readdirSync(stored).filter((name) => name.startsWith('checkpoint-'))
    const isStored = ({ name, files }: Version): boolean =>
      folders.some((one) => (one === name || one.startsWith(`${name}~`)) && holds(join(stored, one), files))
    const owed = versions.filter(({ livedMs }) => livedMs >= lifeMs)
    expect(
      owed.filter((version) => !isStored(version)).map(({ name }) => name),
      `seed ${SEED}`,
    ).toEqual([])

    const first = { name: 'checkpoint-0', files: filesOf(join(folder, 'checkpoint-0')), livedMs: 0 }
    const whole = (path: string, name: string): boolean =>
      [first, ...versions].some((one) => one.name === name && holds(path, one.files))
    const usedAgain = new Set(
      versions.map(({ name }) => name).filter((name, at, all) => all.indexOf(name) < at),
    )
    for (const one of folders) {
      const [name = ''] = one.split('~')
      const isRecorded = isRecord(join(stored, '.gpu-agent', `${one}.json`))
      const isMarked = existsSync(join(stored, one, 'trainer_state.json'))
      if (isRecorded || (isMarked && !usedAgain.has(name)))
        expect(whole(join(stored, one), name), `${one} is whole, seed ${SEED}`).toBe(true)
    }
    for (const name of readdirSync(laptop).filter((one) => /^checkpoint-\d+$/.test(one)))
      expect(whole(join(laptop, name), name), `${name} on the laptop, seed ${SEED}`).toBe(true)
  },
  600_000,
)

const manifestOf = (home: string, url: string): string => `version: 1
name: soak
secrets: {required: [SOAK_SECRET]}
remotes:
  s: {type: s3, provider: Rclone, endpoint: "${url}", access_key_id: ${KEY.key}, secret_access_key: "\${SOAK_SECRET}"}
sync:
  - {name: s, path: ${home}/out, to: "s:bucket/run", every: 1s, settle: 100ms}
`

/** The agent and a client that pulls, each started again whenever it was killed. */
const createWorld = (home: string) => {
  let agent: AgentProcess | undefined
  let client: { child: ChildProcess; ended: Promise<void> } | undefined
  let laptop = ''
  const start = async (): Promise<void> => {
    rmSync(join(home, 'run/agent.sock'), { force: true })
    const path = `${rclone.path === undefined ? '' : rclone.folder}:${process.env['PATH'] ?? ''}`
    agent = await startAgent({ home, env: { PATH: path, SOAK_SECRET: KEY.secret } })
  }
  const startClient = (): void => {
    const child = spawn(
      process.execPath,
      [AGENTCTL, 'pull-checkpoint', '--watch', '--every', '1s', '--to', laptop],
      { env: { PATH: process.env['PATH'], HOME: home, AGENT_HOME: home }, stdio: 'ignore' },
    )
    client = { child, ended: new Promise((resolve) => child.once('exit', () => resolve())) }
  }
  const killClient = async (): Promise<void> => {
    client?.child.kill('SIGKILL')
    await client?.ended
  }
  return {
    startAgent: start,
    startClient: (to: string): void => {
      laptop = to
      startClient()
    },
    log: (): string => agent?.log() ?? '',
    agentctl: (args: readonly string[]) => agent!.agentctl(args),
    sync: async (): Promise<StatusRecord['sync'][number] | undefined> => {
      const { stdout, code } = await agent!.agentctl(['status', '--json'])
      return code === 0 ? (JSON.parse(stdout) as StatusRecord).sync[0] : undefined
    },
    killAtRandom: async (options: { while: () => boolean; pauseMs: number }) => {
      const random = createRandom(SEED + 1)
      const kills = { agent: 0, rclone: 0, client: 0 }
      const isEnough = (): boolean => Object.values(kills).every((count) => count > 0)
      while (options.while() || !isEnough()) {
        await delay(options.pauseMs * (0.5 + random()))
        const which = random()
        if (which < 0.35) {
          await agent!.kill('SIGKILL')
          kills.agent += 1
          await start()
        } else if (which < 0.75) kills.rclone += await killRclone(join(home, 'run/sync/rclone-'))
        else {
          await killClient()
          kills.client += 1
          startClient()
        }
      }
      return kills
    },
    end: async (): Promise<void> => {
      await killClient()
      await agent?.kill('SIGKILL')
    },
  }
}

/** Waits a little for an rclone of this agent and kills it. */
const killRclone = async (homePrefix: string): Promise<number> => {
  for (let tries = 0; tries < 50; tries += 1) {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      if (!environmentOf(pid).includes(`HOME=${homePrefix}`)) continue
      try {
        process.kill(Number(pid), 'SIGKILL')
        return 1
      } catch {
        // It ended by itself in between.
      }
    }
    await delay(20)
  }
  return 0
}

const environmentOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8')
  } catch {
    return ''
  }
}

const runTrainer = (options: TrainerOptions) => {
  const program = join(import.meta.dirname, 'support/fake-trainer.ts')
  const child = spawn(process.execPath, [program, JSON.stringify(options)], { stdio: 'inherit' })
  let isRunning = true
  const ended = new Promise<number | null>((resolve) =>
    child.once('exit', (code) => {
      isRunning = false
      resolve(code)
    }),
  )
  return { ended, isRunning: () => isRunning }
}

/** Every save that was ever complete, with how long it lived; those that are still there live for ever. */
const readVersions = (journal: string): readonly Version[] => {
  const versions = new Map<number, Version>()
  for (const text of readFileSync(journal, 'utf8').split('\n').filter(Boolean)) {
    const line = JSON.parse(text) as TrainerLine
    const known = versions.get(line.version)
    if ('files' in line) versions.set(line.version, { ...line, livedMs: Number.POSITIVE_INFINITY })
    else if (known) known.livedMs = line.livedMs
  }
  return [...versions.values()]
}

const isRecord = (path: string): boolean =>
  existsSync(path) && Array.isArray((JSON.parse(readFileSync(path, 'utf8')) as { files?: unknown }).files)

const holds = (folder: string, files: Readonly<Record<string, string>>): boolean =>
  Object.entries(files).every(
    ([name, sha256]) => existsSync(join(folder, name)) && hashOf(join(folder, name)) === sha256,
  )

const filesOf = (folder: string): Readonly<Record<string, string>> =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, hashOf(join(folder, name))]))

const hashOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')
