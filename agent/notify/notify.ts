import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import type { EventRecord } from '../../shared/contract/records.ts'
import type { AddressPolicy } from '../../shared/sources/address-policy.ts'
import { askedDelayMs, isRetryableStatus } from '../../shared/sources/retry-after.ts'
import type { Clock } from '../platform/clock.ts'
import type { Database } from '../platform/database.ts'
import { errorText } from '../platform/files.ts'
import type { Log } from '../platform/log.ts'
import type { PostJson } from '../platform/post-json.ts'
import { checkWebhook } from './check-webhook.ts'
import type { Message } from './messages.ts'
import { sayEvent } from './messages.ts'

export type NotifyDeps = {
  readonly db: Database
  readonly clock: Clock
  readonly report: Report
  readonly log: Log
  readonly post: PostJson
  readonly policy: AddressPolicy
  readonly box: Message['box']
  /** The journal, which is the queue: what was not delivered is read again after a restart. */
  readonly journal: {
    read(afterId: number, limit: number): readonly EventRecord[]
    lastId(): number
    subscribe(wake: () => void): () => void
  }
}

export type Notify = ReturnType<typeof createNotify>

/** A webhook that is away for long gets the newest of what it missed. */
const LONGEST_QUEUE = 50
const PAGE = 500
/** About a quarter of an hour; the stop of a box is announced earlier than it gives up. */
const RETRY_MS = [1_000, 5_000, 30_000, 120_000, 600_000] as const
/** A server that asks for more patience than this is not waited for any longer. */
const LONGEST_WAIT_MS = 600_000

/** Tells the manifest's webhook what somebody who is away should know. It slows nothing down and fails nothing. */
export const createNotify = (deps: NotifyDeps) => {
  const { clock, journal, log } = deps
  const select = deps.db.prepare<[], { event_id: number }>('SELECT event_id FROM notified')
  const replace = deps.db.prepare<[number]>('INSERT OR REPLACE INTO notified (id, event_id) VALUES (1, ?)')
  let webhook: string | null = null
  let readUpTo = 0
  let queue: readonly Message[] = []
  let dropped = 0
  let problem: Problem | null = null
  let wake = Promise.withResolvers<undefined>()

  /** A full disk costs a message that comes twice, no more. */
  const keepPlace = (eventId: number): void => {
    try {
      replace.run(eventId)
    } catch (error) {
      log.warn('the place in the journal could not be kept', { error: errorText(error) })
    }
  }

  const readJournal = (): void => {
    for (;;) {
      const page = journal.read(readUpTo, PAGE)
      const last = page.at(-1)
      if (last === undefined) return
      readUpTo = last.id
      const messages = page.flatMap((event) => {
        const said = sayEvent(event)
        return said ? [{ ...said, text: `${deps.box.hostname}: ${said.text}`, box: deps.box, event }] : []
      })
      dropped += Math.max(0, queue.length + messages.length - LONGEST_QUEUE)
      queue = [...queue, ...messages].slice(-LONGEST_QUEUE)
      if (queue.length === 0) keepPlace(readUpTo)
    }
  }

  /** Delivers one message or gives it up. @throws the signal's reason */
  const deliver = async (message: Message, to: string, signal: AbortSignal): Promise<void> => {
    const left = dropped
    const text = left === 0 ? message.text : `${message.text}\n(${left} earlier messages were dropped)`
    for (let attempt = 0; webhook === to; attempt += 1) {
      const outcome = await attemptTo(to, { ...message, text }, signal)
      if (outcome.kind === 'delivered') {
        problem = null
        dropped -= left
        return
      }
      const failure = new AgentError('notify_failed', `the webhook did not take a message: ${outcome.why}`)
      if (problem === null)
        deps.report({ type: 'notify.failed', subject: 'notify', data: { message: failure.message } })
      problem = problemFrom(failure, 'notify', 'warning')
      log.warn(failure.message, { event: message.event.id })
      const waitMs = Math.max(
        RETRY_MS[attempt] ?? Infinity,
        outcome.kind === 'failed' ? (outcome.waitMs ?? 0) : 0,
      )
      if (outcome.kind === 'refused' || waitMs > LONGEST_WAIT_MS) break
      await clock.sleep(waitMs, signal)
    }
    dropped += 1
  }

  const attemptTo = async (url: string, message: Message, signal: AbortSignal): Promise<Outcome> => {
    try {
      const { status, headers } = await deps.post({ url, body: message }, { signal })
      if (status >= 200 && status < 300) return { kind: 'delivered' }
      const why = `${new URL(url).host} answered ${status}`
      if (!isRetryableStatus(status)) return { kind: 'refused', why }
      const asked = { 'retry-after': String(headers['retry-after'] ?? '') }
      return { kind: 'failed', why, waitMs: askedDelayMs(asked, clock.now()) }
    } catch (error) {
      signal.throwIfAborted()
      const isForbidden = error instanceof AgentError && error.code === 'forbidden_address'
      return { kind: isForbidden ? 'refused' : 'failed', why: errorText(error) }
    }
  }

  return {
    /** The address from now on; null: nobody is told. What happened before the first address is not told. */
    configure: (address: string | null): void => {
      webhook = address
      if (address === null) deps.db.prepare('DELETE FROM notified').run()
      else if (select.get() === undefined) keepPlace(journal.lastId())
      readUpTo = select.get()?.event_id ?? journal.lastId()
      queue = []
      dropped = 0
      problem = null
      wake.resolve(undefined)
    },

    /** What is wrong with an address, before anything is sent to it. */
    check: (address: string | undefined): readonly Problem[] => checkWebhook(address, deps.policy),

    /** Why the webhook is not reached; null when the last message was. */
    problem: (): Problem | null => problem,

    service: {
      name: 'notify',
      run: async (signal: AbortSignal): Promise<void> => {
        const unsubscribe = journal.subscribe(() => wake.resolve(undefined))
        const stop = (): void => wake.resolve(undefined)
        signal.addEventListener('abort', stop, { once: true })
        try {
          while (!isAborted(signal)) {
            wake = Promise.withResolvers()
            const to = webhook
            if (to !== null) readJournal()
            const [next] = queue
            if (to === null || next === undefined) {
              await wake.promise
              continue
            }
            await deliver(next, to, signal)
            queue = queue.filter((message) => message !== next)
            if (webhook === to) keepPlace(next.event.id)
          }
        } finally {
          unsubscribe()
          signal.removeEventListener('abort', stop)
        }
      },
    },
  }
}

type Outcome =
  | { readonly kind: 'delivered' }
  /** `waitMs`: as the server asks. */
  | { readonly kind: 'failed'; readonly why: string; readonly waitMs?: number | undefined }
  /** Trying again cures nothing. */
  | { readonly kind: 'refused'; readonly why: string }

/** Behind a function, so that the compiler does not take the loop's condition for still true. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted
