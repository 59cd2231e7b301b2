import type { BillKind, Ledger } from './ledger.ts'

export type Address = { readonly host: string; readonly port: number }

/** How a machine behaves from its making on. */
export type Behaviour = {
  /** `usual`: comes up; `never`: loads for ever; `fails`: its container cannot be started. */
  readonly boot?: 'usual' | 'never' | 'fails'
  readonly loadMs?: number
  /** How long a stop takes once it was asked for; `ignored`: accepted and not carried out. */
  readonly stopMs?: number | 'ignored'
  /** Where its sshd is, one address for each start; the last one stays. Nobody listens by default. */
  readonly addresses?: readonly Address[]
}

export type MachineState = 'loading' | 'running' | 'stopped' | 'exited' | 'offline' | 'gone'

export type Machine = {
  readonly id: string
  readonly provider: 'vast' | 'runpod'
  readonly label: string
  readonly image: string
  readonly onStart: string
  readonly diskGb: number
  readonly gpu: string
  readonly gpuCount: number
  readonly env: Readonly<Record<string, string>>
  readonly usdPerHour: number
  readonly storageUsdPerHour: number
  readonly isBid: boolean
  state: MachineState
  wanted: 'running' | 'stopped'
  startedMs: number
  starts: number
  next: { readonly atMs: number; readonly to: MachineState } | null
  behaviour: Behaviour
}

export type MachineOrder = Omit<
  Machine,
  'id' | 'state' | 'wanted' | 'startedMs' | 'starts' | 'next' | 'behaviour'
>

/** Machines as both providers have them; the words about them differ (vast.ts, runpod.ts). */
export type Machines = {
  all(): readonly Machine[]
  find(id: string): Machine | undefined
  make(order: MachineOrder): Machine
  stop(machine: Machine): void
  start(machine: Machine): void
  destroy(machine: Machine): void
  /** Somebody bid more: it stops at once, and nothing told the box. */
  outbid(machine: Machine): void
  addressOf(machine: Machine): Address
  /** The next machine that is made behaves so; the first of several first. */
  behaveNext(behaviour: Behaviour): void
}

const NOBODY: Address = { host: '127.0.0.1', port: 9 }

export const createMachines = (deps: {
  readonly ledger: Ledger
  readonly nowMs: () => number
  readonly behaviour: Behaviour
  /** Called at each change of a machine's state, so that something real can start and end with it. */
  readonly onState: (machine: Machine) => void
}): Machines => {
  const machines: Machine[] = []
  const queued: Behaviour[] = []

  const enter = (machine: Machine, state: MachineState, atMs: number): void => {
    machine.state = state
    machine.next = null
    const kind = state === 'gone' ? 'closed' : BILLED[state](machine)
    const usdPerHour =
      kind === 'gpu' ? machine.usdPerHour : kind === 'storage' ? machine.storageUsdPerHour : 0
    deps.ledger.bill(machine.id, { kind, usdPerHour, atMs })
    deps.onState(machine)
  }
  /** Brings a machine to now: what was due happened at its own time, whenever somebody looks. */
  const settle = (machine: Machine): Machine => {
    while (machine.next !== null && machine.next.atMs <= deps.nowMs())
      enter(machine, machine.next.to, machine.next.atMs)
    return machine
  }
  const load = (machine: Machine): void => {
    const { boot = 'usual', loadMs = 200 } = machine.behaviour
    machine.wanted = 'running'
    machine.startedMs = deps.nowMs()
    machine.starts += 1
    enter(machine, 'loading', deps.nowMs())
    if (boot !== 'never')
      machine.next = { atMs: deps.nowMs() + loadMs, to: boot === 'fails' ? 'exited' : 'running' }
  }

  return {
    all: () => machines.map(settle).filter(({ state }) => state !== 'gone'),
    find: (id) => machines.filter((one) => one.id === id).map(settle)[0],
    make: (order) => {
      const number = 1_000_001 + machines.length
      const machine: Machine = {
        ...order,
        id: order.provider === 'vast' ? String(number) : `pod${number.toString(36)}`,
        state: 'loading',
        wanted: 'running',
        startedMs: deps.nowMs(),
        starts: 0,
        next: null,
        behaviour: { ...deps.behaviour, ...queued.shift() },
      }
      machines.push(machine)
      load(machine)
      return machine
    },
    stop: (machine) => {
      machine.wanted = 'stopped'
      const { stopMs = 100 } = machine.behaviour
      if (stopMs !== 'ignored' && machine.state !== 'stopped')
        machine.next = { atMs: deps.nowMs() + stopMs, to: 'stopped' }
    },
    start: (machine) => {
      if (machine.state === 'stopped') load(machine)
      else machine.wanted = 'running'
    },
    destroy: (machine) => enter(machine, 'gone', deps.nowMs()),
    outbid: (machine) => {
      machine.wanted = 'stopped'
      enter(machine, 'stopped', deps.nowMs())
    },
    addressOf: ({ behaviour: { addresses = [] }, starts }) =>
      addresses[Math.min(starts, addresses.length) - 1] ?? NOBODY,
    behaveNext: (behaviour) => void queued.push(behaviour),
  }
}

/** Vast.ai does not bill the loading; a container that exited by itself goes on billing. */
const BILLED: Readonly<Record<Exclude<MachineState, 'gone'>, (machine: Machine) => BillKind>> = {
  loading: ({ provider }) => (provider === 'vast' ? 'nothing' : 'gpu'),
  running: () => 'gpu',
  exited: () => 'gpu',
  offline: () => 'gpu',
  stopped: () => 'storage',
}
