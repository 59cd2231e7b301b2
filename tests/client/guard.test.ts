import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { judgeBox } from '../../client/rent/judge-box.ts'
import type { BoxFacts } from '../../client/rent/judge-box.ts'
import { EXIT } from '../../shared/contract/errors.ts'
import type { RentedBox } from '../support/rented-box.ts'
import { noRentedBox, startRentedBox } from '../support/rented-box.ts'

const NOW = Date.parse('2026-11-22T12:00:00Z')
const HOUR = 36e5

const facts = (change: Partial<BoxFacts> & { hours?: number }): BoxFacts => ({
  instance: {
    id: '1',
    provider: 'vast',
    label: 'gpu-agent-x-1',
    state: 'running',
    message: null,
    gpu: null,
    gpuCount: 1,
    usdPerHour: 0.5,
    since: new Date(NOW - (change.hours ?? 1) * HOUR).toISOString(),
    ssh: null,
  },
  rental: {
    label: 'gpu-agent-x-1',
    provider: 'vast',
    id: '1',
    context: null,
    manifest: 'x',
    createdAt: new Date(NOW - HOUR).toISOString(),
    usdPerHour: 0.5,
    pid: null,
    maxCostUsd: 2,
    maxHours: null,
    onLimit: 'stop',
    syncedAt: null,
  },
  budget: undefined,
  silentMs: 0,
  nowMs: NOW,
  ...change,
})
const heard = (change: Partial<NonNullable<BoxFacts['budget']>>): NonNullable<BoxFacts['budget']> => ({
  state: 'ok',
  spentUsd: 3,
  limitUsd: 2,
  rateUsdPerHour: 0.5,
  hoursUsed: 6,
  limitHours: null,
  stopAt: null,
  onLimit: 'stop',
  idle: null,
  problem: null,
  ...change,
})
const judge = (change: Parameters<typeof facts>[0]) => judgeBox(facts(change), { leaseMs: 0.5 * HOUR })

describe('which boxes the guard stops', () => {
  test('one whose agent is silent for the lease, and none before', () => {
    expect(judge({ silentMs: 0.49 * HOUR })).toBeUndefined()
    expect(judge({ silentMs: 0.5 * HOUR })).toBe('its agent has been silent for 30 min')
  })

  test('a silent one that is over its manifest’s limits, by more than its own stop may take', () => {
    expect(judge({ hours: 4.1 })).toBeUndefined()
    expect(judge({ hours: 4.5 })).toBe('it has cost $2.25 of $2.00, and did not stop itself')
    const rental = { ...facts({}).rental, maxCostUsd: null, maxHours: 3 }
    expect(judge({ hours: 3.1, rental })).toBeUndefined()
    expect(judge({ hours: 3.5, rental })).toBe('it has run for 3 h 30 min of 3 h, and did not stop itself')
  })

  test('an agent that answers counts for itself: its extension holds, its overrun ends', () => {
    expect(judge({ hours: 9, budget: heard({ limitUsd: 5 }) })).toBeUndefined()
    expect(judge({ hours: 1, budget: heard({}) })).toBe('it has cost $3.00 of $2.00, and did not stop itself')
  })

  test('incident B4: no limit is no limit, and notify stops nothing', () => {
    expect(judge({ hours: 900, budget: heard({ limitUsd: null }) })).toBeUndefined()
    expect(judge({ hours: 900, rental: { ...facts({}).rental, maxCostUsd: null } })).toBeUndefined()
    expect(judge({ hours: 900, rental: { ...facts({}).rental, onLimit: 'notify' } })).toBeUndefined()
    expect(judge({ hours: 9, budget: heard({ onLimit: 'notify' }) })).toBeUndefined()
  })

  test('nothing that is stopped, or being stopped', () => {
    for (const state of ['stopped', 'stopping', 'gone'] as const)
      expect(judge({ instance: { ...facts({}).instance, state }, silentMs: HOUR })).toBeUndefined()
  })
})

describe.skipIf(noRentedBox !== undefined)(
  `agentctl guard (${noRentedBox ?? 'a real sshd as the box'})`,
  () => {
    let box: RentedBox
    beforeAll(async () => {
      box = await startRentedBox()
      const manifest = box.manifest('version: 1\nname: quiet\ninstance: {provider: vast, image: example/x}\n')
      const { code, stderr } = await box.agentctl(['up', manifest, '--yes'])
      expect(code, stderr).toBe(EXIT.done)
    }, 60_000)
    afterAll(() => box.close())

    test('C1: a box whose agent died is stopped after the lease, read back through a stop that is not carried out', async () => {
      const guard = box.startAgentctl(['guard', '--lease', '2s', '--every', '1s'])
      await guard.printed('guarding what this machine rented')
      // While the agent answers nothing happens, however many looks there are.
      const looks = () => box.fake.calls.filter(({ kind }) => kind === 'show').length
      const before = looks()
      while (looks() < before + 3) await new Promise((resolve) => setTimeout(resolve, 100))
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

    test('what the guard stopped is not taken for saved', async () => {
      const { code, stderr } = await box.agentctl(['down', '--destroy'])
      expect(stderr).toContain('error: 1000001 is stopped, and its last sync was not verified')
      expect(code).toBe(EXIT.refused)
      expect((await box.agentctl(['down', '--destroy', '--lose-data'])).code).toBe(EXIT.done)
      expect(box.fake.ledger.existing()).toEqual([])
    })

    test('as a service it gets no key in its file: it reads the one of the provider’s own tool', async () => {
      const config = box.server.env['XDG_CONFIG_HOME'] ?? ''
      const refused = await box.agentctl(['guard', '--install-service'])
      expect(refused.stderr).toContain('error: a service gets no key from VAST_API_KEY')
      expect(refused.code).toBe(EXIT.notAuthenticated)
      mkdirSync(join(config, 'vastai'), { recursive: true })
      writeFileSync(join(config, 'vastai', 'vast_api_key'), `${box.fake.environment['VAST_API_KEY'] ?? ''}\n`)
      // The machine may have no service manager: then the file is there, and the command that failed is told.
      const { stdout } = await box.agentctl(['guard', '--install-service', '--lease', '45m'])
      expect(stdout).toContain('gpu-agent-guard')
      const folder = join(config, 'systemd', 'user')
      const text = readdirSync(folder)
        .map((name) => readFileSync(join(folder, name), 'utf8'))
        .join('')
      expect(text).toContain('"guard" "--lease" "45m"')
      expect(text).not.toContain(box.fake.environment['VAST_API_KEY'])
      expect((await box.agentctl(['guard', '--uninstall-service'])).stdout).toContain('removed')
      expect(readdirSync(folder)).toEqual([])
    })
  },
)
