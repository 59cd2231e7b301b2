import type { StatusRecord } from '../../shared/contract/records.ts'
import type { Call } from '../command.ts'
import { connect } from '../connect.ts'
import { resolveBox } from '../context/resolve-box.ts'
import { asAgentError } from '../exit.ts'

/** What an agent said, or why nothing came back. */
export type Heard =
  | { readonly state: 'answers'; readonly status: StatusRecord }
  | { readonly state: 'silent'; readonly why: string }

/** Longer than a connection over ssh takes to be made, shorter than anybody waits for a list. */
const WITHIN_MS = 20_000

/** Asks the agent of a context once, with a deadline of its own. @throws the signal's reason */
export const hearAgent = async (
  context: string,
  call: Pick<Call, 'environment' | 'signal'>,
): Promise<Heard> => {
  try {
    const api = connect(await resolveBox(context, call.environment), {
      environment: call.environment,
      signal: call.signal,
      timeoutMs: WITHIN_MS,
      onAgentVersion: () => undefined,
    })
    return { state: 'answers', status: await api.status() }
  } catch (error) {
    call.signal.throwIfAborted()
    return { state: 'silent', why: asAgentError(error).message }
  }
}
