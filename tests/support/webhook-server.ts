import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A webhook's server: it keeps what it took, and answers the next calls as it is told. */
export type WebhookServer = {
  readonly url: string
  readonly allowHost: string
  /** Documents that were answered with 200. */
  readonly taken: readonly Readonly<Record<string, unknown>>[]
  /** Every call, with its answer's status; 0: none. */
  readonly calls: readonly number[]
  /** How the next calls are answered, one each; then 200. */
  answerNext(...answers: readonly Answer[]): void
  close(): Promise<void>
}

type Answer =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** Takes the document and breaks the connection, or never answers. */
  | 'drop'
  | 'hang'

export const startWebhookServer = async (): Promise<WebhookServer> => {
  const taken: Record<string, unknown>[] = []
  const calls: number[] = []
  const next: Answer[] = []
  const answer = (response: ServerResponse, text: string): void => {
    const how = next.shift() ?? { status: 200 }
    calls.push(typeof how === 'string' ? 0 : how.status)
    if (how === 'hang') return
    if (how === 'drop') {
      response.destroy()
      return
    }
    if (how.status === 200) taken.push(JSON.parse(text) as Record<string, unknown>)
    response.writeHead(how.status, how.headers).end('ok')
  }
  const server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => answer(response, text))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const allowHost = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url: `http://${allowHost}/services/T0/SECRET-PATH`,
    allowHost,
    taken,
    calls,
    answerNext: (...answers) => void next.push(...answers),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
