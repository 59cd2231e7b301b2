import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { findRclone } from '../support/rclone.ts'
import type { RentedBox } from '../support/rented-box.ts'
import { noRentedBox, startRentedBox } from '../support/rented-box.ts'

const rclone = findRclone()
const missing = noRentedBox ?? (rclone.path === undefined ? rclone.reason : undefined)
const SECRET = 'the-value-of-the-secret'
const OFFERS = [
  { id: 501, dph_total: 0.5 },
  { id: 502, dph_total: 0.4 },
  { id: 503, dph_total: 0.3, cuda_max_good: 12.2 },
  { id: 504, dph_total: 0.9 },
]

/** A whole safetensors file: its header's length, the header, nothing more. */
const safetensors = (name: string): Buffer => {
  const header = Buffer.from(JSON.stringify({ __metadata__: { name } }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.byteLength))
  return Buffer.concat([length, header])
}

type Status = { readonly run: { readonly state: string } | null }

/** One rented box through its whole life; each test begins where the one before ended. */
describe.skipIf(missing !== undefined)(
  `a rented box (${missing ?? 'a real sshd and agent behind it'})`,
  () => {
    let box: RentedBox
    let work: string
    let config: string
    let manifest: string
    beforeAll(async () => {
      box = await startRentedBox({
        offers: OFFERS,
        addresses: 3,
        path: rclone.path === undefined ? '' : rclone.folder,
      })
      config = box.server.env['XDG_CONFIG_HOME'] ?? ''
      work = join(box.server.folder, 'work')
      for (const name of ['checkpoints', 'remote']) mkdirSync(join(work, name), { recursive: true })
    }, 60_000)
    afterAll(() => box.close())

    const boxes = async () =>
      (JSON.parse((await box.agentctl(['boxes', '--json'])).stdout) as { boxes: { agent: string | null }[] })
        .boxes
    const machine = () => {
      const [found] = box.fake.machines.all()
      if (found === undefined) throw new Error('nothing is rented')
      return found
    }

    test('up: offer, machine, ssh, agent, run, status; every declared secret is in the machine', async () => {
      manifest = box.manifest(`version: 1
name: train
secrets: {required: [MY_KEY], optional: [HF_TOKEN, NOT_THERE]}
instance: {provider: vast, image: "example/train:cuda12.8", gpu: ["RTX 4090"], disk: 100GB, max_price: 0.60}
processes:
  train: {kind: command, command: [sleep, "1000"]}
sync:
  - {name: checkpoints, path: ${work}/checkpoints, to: ${work}/remote, settle: 1s, every: 1h}
`)
      const { code, stdout, stderr } = await box.agentctl(['up', manifest, '--yes', '--name', 'train'], {
        MY_KEY: SECRET,
        HF_TOKEN: 'hf_other',
      })
      expect(code, stderr).toBe(EXIT.done)
      // The cheapest that fits: 503 does not run the CUDA that the image is built for, 504 is too dear.
      expect(box.fake.calls.find(({ kind }) => kind === 'create')?.path).toBe('/api/v0/asks/502/')
      expect(machine()).toMatchObject({ env: { MY_KEY: SECRET, HF_TOKEN: 'hf_other' }, diskGb: 100 })
      expect(machine().env['NOT_THERE']).toBeUndefined()
      // The box’s own key may not read its price, so the box is told what it was rented for.
      const budget = await box.agentctl(['budget', '--json', '--context', 'train'])
      expect(JSON.parse(budget.stdout)).toMatchObject({ budget: { rateUsdPerHour: 0.4 } })
      expect(machine().label).toMatch(/^gpu-agent-train-[0-9a-f]{6}$/)
      const steps = ['is running', 'waiting for ssh', 'waiting for the agent', 'paired with', 'has begun']
      for (const step of steps) expect(stderr).toContain(step)
      expect(stdout).toMatch(/train +command +(running|ready)/)
      const folder = join(config, 'gpu-agent', 'rentals')
      const records = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'))
      expect(records).toHaveLength(1)
      expect(`${stdout}${stderr}${records.join('')}`).not.toContain(SECRET)
      expect(`${stdout}${stderr}${records.join('')}`).not.toContain(box.fake.environment['VAST_API_KEY'])
    }, 90_000)

    test('boxes lists what is rented, at what cost, with its agent', async () => {
      const [row, ...others] = await boxes()
      expect(others).toEqual([])
      expect(row).toMatchObject({
        id: '1000001',
        provider: 'vast',
        label: machine().label,
        gpu: 'RTX 4090',
        usdPerHour: 0.4,
        state: 'running',
        context: 'train',
        warning: null,
      })
      expect(row?.agent).toMatch(/./)
      expect((await box.agentctl(['boxes'])).stdout).toContain('$0.40 an hour altogether')
    })

    test('a checkpoint that is not whole cannot be stored: down refuses, and the box runs on', async () => {
      writeFileSync(join(work, 'checkpoints', 'step-1.safetensors'), 'torn')
      const { code, stderr } = await box.agentctl(['down', '--sync-timeout', '8s'])
      expect(stderr).toMatch(/error: nothing was stopped, since data would be lost: 1 checkpoint \(4 B\)/)
      expect(stderr).toContain('step-1.safetensors')
      expect(stderr).toContain('--lose-data')
      expect(code).toBe(EXIT.refused)
      expect(box.fake.ledger.burning()).toEqual(['1000001'])
    }, 60_000)

    test('what can be stored is stored, then the machine is stopped, read back', async () => {
      writeFileSync(join(work, 'checkpoints', 'step-1.safetensors'), safetensors('weights'))
      const { code, stdout, stderr } = await box.agentctl(['down'])
      expect(code, stderr).toBe(EXIT.done)
      expect(stdout).toContain('stopped vast 1000001: read back')
      expect(stderr).toContain('its disk is kept and goes on costing')
      expect(box.fake.ledger.burning()).toEqual([])
      expect(box.fake.ledger.existing()).toEqual(['1000001'])
      expect(readFileSync(join(work, 'remote', 'step-1.safetensors'))).toEqual(safetensors('weights'))
      expect(await boxes()).toMatchObject([{ state: 'stopped', agent: null, warning: null }])
      const status = await box.agentctl(['status'])
      expect(status.stderr).toContain('error: train is stopped at vast')
      expect(status.code).toBe(EXIT.unreachable)
    }, 60_000)

    const startedByHand = async (): Promise<{ stdout: string }> => {
      box.fake.machines.start(machine())
      while (machine().state !== 'running') await delay(50)
      // The agent of a machine that has just started takes a moment.
      let status = await box.agentctl(['status'])
      while (status.code !== EXIT.done) status = await box.agentctl(['status'])
      return status
    }

    test('started again it has another address: it is looked up, and the context follows', async () => {
      expect((await box.agentctl(['context', 'ls'])).stdout).toContain(`:${box.ports[0]}`)
      const status = await startedByHand()
      expect(status.stdout).toContain(box.home)
      expect((await box.agentctl(['context', 'ls'])).stdout).toContain(`:${box.ports[1]}`)
    }, 60_000)

    test('a second down counts from its own sync, not from that of the one before', async () => {
      const syncedAt = (): string => {
        const folder = join(config, 'gpu-agent/rentals')
        const text = readFileSync(join(folder, readdirSync(folder)[0] ?? ''), 'utf8')
        return (JSON.parse(text) as { syncedAt: string }).syncedAt
      }
      // Whether the box may stop itself is proven by a harmless write when it starts, which would undo a stop.
      while ((JSON.parse((await box.agentctl(['status', '--json'])).stdout) as Status).run?.state !== 'ready')
        await delay(100)
      const first = syncedAt()
      expect((await box.agentctl(['down'])).code).toBe(EXIT.done)
      expect(syncedAt() > first).toBe(true)
      await startedByHand()
    }, 60_000)

    test('C1: guard stops it once its agent is silent for the lease, read back, through a provider that fails', async () => {
      const guard = box.startAgentctl(['guard', '--lease', '2s', '--every', '1s'])
      await guard.printed('guarding what this machine rented')
      // While the agent answers nothing happens, however many looks there are.
      const looks = () => box.fake.calls.filter(({ kind }) => kind === 'show').length
      const before = looks()
      while (looks() < before + 3) await delay(100)
      expect(guard.stderr()).not.toContain('silent')
      expect(box.fake.ledger.burning()).toEqual(['1000001'])

      box.fake.fault({ on: 'stop', times: 1, does: { kind: 'answer', status: 503 } })
      await box.killAgent()
      await guard.printed('its agent is silent')
      await guard.printed('vast 1000001 is stopped: read back')
      guard.child.kill('SIGINT')
      expect((await guard.ended).code).toBe(EXIT.interrupted)
      expect(box.fake.ledger.burning()).toEqual([])
      expect(box.fake.ledger.existing()).toEqual(['1000001'])
    }, 60_000)

    test('up starts the stopped box again and brings it to the manifest; nothing else is rented', async () => {
      const secrets = { MY_KEY: SECRET, HF_TOKEN: 'hf_other' }
      const { code, stdout, stderr } = await box.agentctl(['up', manifest, '--yes'], secrets)
      expect(code, stderr).toBe(EXIT.done)
      expect(stderr).toContain('starting vast instance 1000001')
      expect(stdout).toMatch(/train +command +(running|ready)/)
      expect(box.fake.calls.filter(({ kind }) => kind === 'create')).toHaveLength(1)
      expect(await boxes()).toMatchObject([
        { id: '1000001', state: 'running', context: 'train', warning: null },
      ])
      // Its agent dies before anything is stored again, and somebody stops it on the provider’s page.
      await box.killAgent()
      box.fake.machines.stop(machine())
      while (machine().state !== 'stopped') await delay(50)
    }, 90_000)

    test('what was stopped by others is not taken for saved; given up, it is destroyed and forgotten', async () => {
      const { code, stderr } = await box.agentctl(['down', '--destroy'])
      expect(stderr).toContain('error: 1000001 is stopped, and its last sync was not verified')
      expect(code).toBe(EXIT.refused)
      expect(box.fake.ledger.existing()).toEqual(['1000001'])
      expect((await box.agentctl(['down', '--destroy', '--lose-data'])).code).toBe(EXIT.done)
      expect(box.fake.ledger.existing()).toEqual([])
      expect(await boxes()).toEqual([])
      expect((await box.agentctl(['context', 'ls'])).stdout).not.toContain('train')
    }, 60_000)

    test('guard as a service gets no key in its file: it reads the one of the provider’s own tool', async () => {
      const refused = await box.agentctl(['guard', '--install-service'])
      expect(refused.stderr).toContain('error: a service gets no key from VAST_API_KEY')
      expect(refused.code).toBe(EXIT.notAuthenticated)
      mkdirSync(join(config, 'vastai'), { recursive: true })
      writeFileSync(join(config, 'vastai', 'vast_api_key'), `${box.fake.environment['VAST_API_KEY'] ?? ''}\n`)
      // The machine may have no service manager: then the file is there, and the command that failed is told.
      const { stdout, stderr } = await box.agentctl(['guard', '--install-service', '--lease', '45m'])
      expect(stdout + stderr).toContain('gpu-agent-guard')
      const folder = join(config, 'systemd', 'user')
      const text = readdirSync(folder)
        .map((name) => readFileSync(join(folder, name), 'utf8'))
        .join('')
      expect(text).toContain('"guard" "--lease" "45m"')
      expect(text).not.toContain(box.fake.environment['VAST_API_KEY'])
      const removed = await box.agentctl(['guard', '--uninstall-service'])
      expect(removed.stdout + removed.stderr).toContain('removed')
      expect(readdirSync(folder)).toEqual([])
    })
  },
)
