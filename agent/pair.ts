import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { z } from 'zod'
import { AgentError, isErrorCode } from '../shared/contract/errors.ts'
import { ErrorBody, StatusRecord } from '../shared/contract/records.ts'
import type { Scope } from '../shared/contract/states.ts'
import type { AgentConfig } from './config.ts'
import { errnoOf, errorText } from './platform/files.ts'

/** What `agentd pair --json` prints. `spkiPin` and `tlsPort` are null where it listens on no port. */
export type Pairing = {
  readonly agentId: string
  readonly tokenId: string
  readonly token: string
  readonly scope: Scope
  readonly spkiPin: string | null
  readonly version: string
  readonly tlsPort: number | null
  /** Where the agent listens, so that a client that came through ssh knows what to forward. */
  readonly socket: string
}

const Created = z.object({
  id: z.string(),
  token: z.string(),
  tls: z
    .object({ spkiPin: z.string(), ports: z.array(z.number()) })
    .nullable()
    .default(null),
})

/**
 * Makes a token through the running agent, with the local token as proof: whoever may read that file owns the box.
 * @throws AgentError unreachable when no agent runs, unauthorized
 */
export const pair = async (
  { scope, name }: { readonly scope: Scope; readonly name: string },
  config: Pick<AgentConfig, 'sockets' | 'stateFolder'>,
): Promise<Pairing> => {
  const socketPath = config.sockets[0] ?? ''
  const token = readLocalToken(config.stateFolder)
  const ask = <T>(method: string, path: string, schema: z.ZodType<T>, body?: unknown) =>
    askAgent({ socketPath, token, method, path, body }, schema)
  const { agent } = await ask('GET', '/v1/status', StatusRecord)
  const created = await ask('POST', '/v1/tokens', Created, { scope, name })
  return {
    agentId: agent.id,
    tokenId: created.id,
    token: created.token,
    scope,
    spkiPin: created.tls?.spkiPin ?? null,
    version: agent.version,
    tlsPort: created.tls?.ports[0] ?? null,
    socket: socketPath,
  }
}

const readLocalToken = (stateFolder: string): string => {
  const path = join(stateFolder, 'local-token')
  try {
    return readFileSync(path, 'utf8').trim()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT')
      throw new AgentError('unreachable', `no agent has run here yet: there is no ${path}`, {
        hint: 'Start agentd with the same --home, then pair.',
      })
    throw new AgentError('unauthorized', `cannot read ${path}: ${errorText(error)}`, {
      hint: 'Run this as the user that agentd runs as.',
    })
  }
}

const askAgent = <T>(
  call: { socketPath: string; token: string; method: string; path: string; body: unknown },
  schema: z.ZodType<T>,
): Promise<T> =>
  new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath: call.socketPath,
        method: call.method,
        path: call.path,
        headers: {
          host: 'agent',
          authorization: `Bearer ${call.token}`,
          ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
        },
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => {
          try {
            const answer: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'))
            if ((response.statusCode ?? 500) < 300) {
              resolve(schema.parse(answer))
              return
            }
            const { error } = ErrorBody.parse(answer)
            reject(
              new AgentError(isErrorCode(error.code) ? error.code : 'internal', error.message, {
                hint: error.hint,
              }),
            )
          } catch (error) {
            reject(error instanceof Error ? error : new Error(String(error)))
          }
        })
      },
    )
    sent.once('error', (error) =>
      reject(
        new AgentError('unreachable', `no agent answers on ${call.socketPath}: ${error.message}`, {
          hint: 'Start agentd with the same --home, then pair.',
        }),
      ),
    )
    sent.end(call.body === undefined ? undefined : JSON.stringify(call.body))
  })
