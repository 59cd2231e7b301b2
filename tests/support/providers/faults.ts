/** What a call is about, at either provider. */
export type CallKind = 'search' | 'create' | 'show' | 'list' | 'stop' | 'start' | 'destroy'

/** One thing that goes wrong with one kind of call: `times` calls long (for ever without), after `after` calls went well. */
export type Fault = {
  readonly on: CallKind
  readonly times?: number
  readonly after?: number
  readonly does: FaultAction
}

export type FaultAction =
  /** Answers this and does nothing. */
  | { readonly kind: 'answer'; readonly status: number; readonly body?: string }
  /** Does what was asked and answers this: a creation that errors and leaves a contract. */
  | { readonly kind: 'done-but'; readonly status: number; readonly body?: string }
  /** Says yes and does nothing. */
  | { readonly kind: 'ignored' }
  /** Does what was asked, and breaks the connection before the answer. */
  | { readonly kind: 'drop' }
  /** Answers with what is no JSON. */
  | { readonly kind: 'garbage' }

/** Takes the first fault of this kind of call whose turn it is, and counts it. */
export const createFaultPicker = () => {
  const faults: { readonly fault: Fault; seen: number }[] = []
  return {
    add: (...added: readonly Fault[]): void => {
      for (const fault of added) faults.push({ fault, seen: 0 })
    },
    clear: (): void => void faults.splice(0),
    pick: (on: CallKind): FaultAction | undefined => {
      for (const one of faults) {
        if (one.fault.on !== on) continue
        const first = (one.fault.after ?? 0) + 1
        if (one.seen + 1 >= first + (one.fault.times ?? Infinity)) continue
        one.seen += 1
        if (one.seen >= first) return one.fault.does
      }
      return undefined
    },
  }
}
