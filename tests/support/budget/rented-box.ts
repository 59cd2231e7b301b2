import { createBudget } from '../../../agent/budget/budget.ts'
import type { Budget } from '../../../agent/budget/budget.ts'
import { newMemory } from '../../../agent/budget/memory.ts'
import type { BudgetMemory } from '../../../agent/budget/memory.ts'
import { planBudget } from '../../../agent/budget/planned-budget.ts'
import type { FlushRecord } from '../../../shared/contract/records.ts'
import { AgentError } from '../../../shared/contract/errors.ts'
import type { AgentEvent } from '../../../shared/contract/events.ts'
import type { Manifest } from '../../../shared/manifest/schema.ts'
import { createFakeProviders, FAKE_KEY } from '../providers/fake-providers.ts'
import type { FakeProviders } from '../providers/fake-providers.ts'
import type { Machine } from '../providers/machines.ts'
import { createSimClock } from './sim-clock.ts'
import type { SimClock } from './sim-clock.ts'

/** The agent's budget on a box that the fake provider rents out, in simulated time. What it costs is in the provider's books. */
export type RentedBox = {
  readonly clock: SimClock
  readonly fake: FakeProviders
  readonly machine: Machine
  readonly events: readonly (AgentEvent & { readonly atMs: number })[]
  /** What agentd logged as an error. */
  readonly errors: readonly string[]
  /** Why the box is busy, as its evidence tells; throws where it cannot be told. */
  busy: () => readonly string[]
  network: 'works' | 'refuses' | 'hangs'
  /** How long a final sync takes; larger than its deadline: it does not listen to it. */
  flushMs: number
  /** The wall clock's error. */
  wallSkewMs: number
  /** Undefined while the agent is not there. */
  budget(): Budget | undefined
  /** The durable state, as it lies on the disk. */
  memory(): BudgetMemory
  isUp(): boolean
  configure(budget: NonNullable<Manifest['budget']>): void
  readonly startAgent: () => void
  /** As SIGKILL: nothing of it is heard or written any more. */
  killAgent(): void
  /** The box goes down for a while and comes up again, still billed. */
  reboot(awayMs: number): Promise<void>
  /** The user starts a stopped box on the provider's page. */
  startMachine(): Promise<void>
  pass(ms: number): Promise<void>
}

export const START_MS = Date.UTC(2026, 10, 1)
const STOPPED_USD_PER_HOUR = 0.02

export const rentBox = (options: {
  readonly budget: NonNullable<Manifest['budget']>
  readonly usdPerHour?: number
  /** `own`: the instance's key, which may not read. */
  readonly key?: 'account' | 'own' | 'none'
  readonly provider?: 'vast' | 'runpod' | 'nobody'
  readonly stopMs?: number | 'ignored'
  /** Called after each step of time. */
  readonly watch?: (box: RentedBox) => void
}): RentedBox => {
  const { usdPerHour = 1, key = 'account', provider = 'vast', stopMs = 5_000, watch } = options
  const clock = createSimClock(START_MS)
  const fake = createFakeProviders({ nowMs: () => clock.nowMs(), behaviour: { stopMs, loadMs: 0 } })
  const machine = fake.machines.make({
    provider: provider === 'runpod' ? 'runpod' : 'vast',
    label: 'box',
    image: 'image',
    onStart: '',
    diskGb: 100,
    gpu: 'RTX 4090',
    gpuCount: 1,
    env: {},
    usdPerHour,
    storageUsdPerHour: STOPPED_USD_PER_HOUR,
    isBid: false,
  })
  const own = `instance-key-${machine.id}`
  const environment: Readonly<Record<string, string | undefined>> = {
    ...(provider === 'vast' ? { CONTAINER_ID: machine.id } : {}),
    ...(provider === 'runpod' ? { RUNPOD_POD_ID: machine.id } : {}),
    ...(key === 'none'
      ? {}
      : { [provider === 'vast' ? 'CONTAINER_API_KEY' : 'RUNPOD_API_KEY']: key === 'own' ? own : FAKE_KEY }),
  }
  const events: (AgentEvent & { readonly atMs: number })[] = []
  const errors: string[] = []
  let planned = planBudget(options.budget)
  let saved = JSON.stringify(newMemory())
  let bootMs = clock.nowMs()
  let boots = 1
  let agent: { readonly budget: Budget; readonly life: AbortController } | undefined

  const flush = async ({ signal }: { signal: AbortSignal }): Promise<FlushRecord> => {
    await clock.sleep(box.flushMs, signal)
    return { stored: [], left: [], leftBytes: 0, secondsNeeded: null, problems: [] }
  }
  const hang = (signal: AbortSignal): Promise<never> =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    })
  /** The box is as alive as the provider lets it be. */
  const followMachine = (): void => {
    fake.machines.all()
    if (machine.state !== 'running') box.killAgent()
  }
  const step = (): void => {
    followMachine()
    watch?.(box)
  }

  const box: RentedBox = {
    clock,
    fake,
    machine,
    events,
    errors,
    busy: () => [],
    network: 'works',
    flushMs: 20_000,
    wallSkewMs: 0,
    budget: () => agent?.budget,
    memory: () => JSON.parse(saved) as BudgetMemory,
    isUp: () => machine.state === 'running',
    configure: (budget) => {
      planned = planBudget(budget)
      agent?.budget.configure(planned)
    },
    startAgent: () => {
      followMachine()
      if (!box.isUp() || agent !== undefined) return
      const life = new AbortController()
      const lives = (): boolean => !life.signal.aborted
      const budget = createBudget({
        store: {
          load: () => JSON.parse(saved) as BudgetMemory,
          save: (memory) => {
            if (lives()) saved = JSON.stringify(memory)
          },
        },
        clock,
        readMoment: () => ({
          kernel: 'kernel',
          boot: `boot ${boots}`,
          uptimeMs: clock.nowMs() - START_MS + 1_000_000,
          bootUptimeMs: bootMs - START_MS + 1_000_000,
          wallMs: clock.nowMs() + box.wallSkewMs,
        }),
        report: (event) => {
          if (lives()) events.push({ ...event, atMs: clock.nowMs() })
        },
        log: {
          info: () => undefined,
          warn: () => undefined,
          error: (message) => void errors.push(message),
        },
        evidence: [{ name: 'the world', busy: () => box.busy() }],
        own: {
          lookup: (name) => environment[name],
          clock,
          searchPath: '/usr/bin:/bin',
          send: async (request, context) => {
            if (box.network === 'hangs') return hang(context.signal)
            if (box.network === 'refuses') throw new AgentError('provider_failed', 'no route to the provider')
            return fake.send(request, context)
          },
        },
        readGpuLoad: () => Promise.resolve([0]),
        flush,
      })
      budget.configure(planned)
      agent = { budget, life }
      budget.service.run(life.signal).catch((error: unknown) => {
        if (lives()) errors.push(`the budget's service ended: ${String(error)}`)
      })
    },
    killAgent: () => {
      agent?.life.abort(new AgentError('interrupted', 'killed'))
      agent = undefined
    },
    reboot: async (awayMs) => {
      box.killAgent()
      await box.pass(awayMs)
      bootMs = clock.nowMs()
      boots += 1
      box.startAgent()
    },
    startMachine: async () => {
      fake.machines.start(machine)
      await box.pass(1_000)
      bootMs = clock.nowMs()
      boots += 1
      box.startAgent()
    },
    pass: (ms) => clock.passTo(clock.nowMs() + ms, step),
  }
  box.startAgent()
  return box
}

/** The time for which the provider has billed the GPU. */
export const gpuMs = ({ fake, machine, clock }: RentedBox): number =>
  fake.ledger
    .gpuTimes(machine.id)
    .reduce((sum, { fromMs, toMs }) => sum + (toMs ?? clock.nowMs()) - fromMs, 0)
