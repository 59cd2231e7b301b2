/** What one machine is billed for: nothing while it loads at Vast.ai, everything while it runs, its disk while it is stopped. */
export type BillKind = 'nothing' | 'gpu' | 'storage'

type Segment = {
  readonly machine: string
  readonly kind: BillKind
  readonly usdPerHour: number
  readonly fromMs: number
  toMs: number | null
}

/** The provider's own books. They know nothing of agentd: tests ask them what really cost money. */
export type Ledger = {
  /** From this moment on the machine is billed so; `closed`: never again. */
  bill(machine: string, now: { readonly kind: BillKind | 'closed'; usdPerHour: number; atMs: number }): void
  /** Machines that were made and not destroyed. */
  existing(): string[]
  /** Machines whose GPU is billed now. */
  burning(): string[]
  /** What was billed until now, of one machine or of all. */
  usd(machine?: string): number
  /** When the GPU of a machine was billed, by the provider's clock; `toMs` null while it is. */
  gpuTimes(machine: string): readonly { readonly fromMs: number; readonly toMs: number | null }[]
}

export const createLedger = (nowMs: () => number): Ledger => {
  const segments: Segment[] = []
  const open = (machine: string): Segment | undefined =>
    segments.find((one) => one.machine === machine && one.toMs === null)
  const openOnes = (): Segment[] => segments.filter((one) => one.toMs === null)
  return {
    bill: (machine, { kind, usdPerHour, atMs }) => {
      const before = open(machine)
      if (before?.kind === kind && before.usdPerHour === usdPerHour) return
      if (before) before.toMs = atMs
      if (kind !== 'closed') segments.push({ machine, kind, usdPerHour, fromMs: atMs, toMs: null })
    },
    existing: () => openOnes().map((one) => one.machine),
    burning: () =>
      openOnes()
        .filter((one) => one.kind === 'gpu')
        .map((one) => one.machine),
    usd: (machine) =>
      segments
        .filter((one) => machine === undefined || one.machine === machine)
        .reduce((sum, one) => sum + (((one.toMs ?? nowMs()) - one.fromMs) / 36e5) * one.usdPerHour, 0),
    gpuTimes: (machine) => segments.filter((one) => one.machine === machine && one.kind === 'gpu'),
  }
}
