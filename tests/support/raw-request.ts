import { request } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'

export type RawAnswer = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

/** One HTTP request over a unix socket with exactly these headers, as an attacker or a script would send it. */
export const rawRequest = (
  socketPath: string,
  path: string,
  options: {
    readonly method?: string
    readonly headers?: Readonly<Record<string, string>>
    readonly body?: string
    /** Stops reading after this much text: for streams that never end. */
    readonly until?: (text: string) => boolean
  } = {},
): Promise<RawAnswer> =>
  new Promise((resolve, reject) => {
    const sent = request(
      { socketPath, path, method: options.method ?? 'GET', headers: { host: 'agent', ...options.headers } },
      (response) => {
        let text = ''
        const answer = (): void =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text })
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString()
          if (options.until?.(text)) {
            answer()
            sent.destroy()
          }
        })
        response.on('end', answer)
        response.on('error', () => undefined)
      },
    )
    sent.once('error', reject)
    sent.end(options.body)
  })
