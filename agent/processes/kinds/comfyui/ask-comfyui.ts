import { get } from 'node:http'
import { z } from 'zod'
import { AgentError } from '../../../../shared/contract/errors.ts'

/** Node classes by name, as far as they are looked at; `python_module` names the pack: `custom_nodes.Impact-Pack`. */
const ObjectInfo = z.record(
  z.string(),
  z.object({
    python_module: z.string().catch(''),
    input: z.record(z.string(), z.record(z.string(), z.unknown()).catch({})).catch({}),
  }),
)
export type ObjectInfo = z.infer<typeof ObjectInfo>

/** What can be asked of a running ComfyUI. Everything throws AgentError process_not_ready. */
export type ComfyUI = {
  /** Every node class that can run. */
  objectInfo(): Promise<ObjectInfo>
  /** The files of a kind of models (`loras`); empty for a kind that it does not know. */
  models(folder: string): Promise<readonly string[]>
}

/** Hundreds of node classes with long lists take a busy ComfyUI a while. */
const ANSWER_WITHIN_MS = 60_000
const MAX_BYTES = 64 * 2 ** 20

/** @param url the address on loopback, with a slash at its end */
export const askComfyUI = (url: string, { signal }: { readonly signal: AbortSignal }): ComfyUI => ({
  objectInfo: async () => {
    const answer = await getJson(`${url}object_info`, signal)
    const info = ObjectInfo.safeParse(answer.value)
    if (answer.status !== 200 || !info.success)
      throw new AgentError(
        'process_not_ready',
        `${url}object_info answers ${answer.status}, without a list of nodes`,
      )
    return info.data
  },
  models: async (folder) => {
    const answer = await getJson(`${url}models/${encodeURIComponent(folder)}`, signal)
    return z.array(z.string()).safeParse(answer.value).data ?? []
  },
})

/** @throws AgentError process_not_ready; the signal's reason */
export const getJson = (url: string, signal: AbortSignal): Promise<{ status: number; value: unknown }> => {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_WITHIN_MS)])
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      const why = limit.aborted ? `no answer within ${ANSWER_WITHIN_MS / 1000} s` : error.message
      reject(
        signal.aborted
          ? (signal.reason as Error)
          : new AgentError('process_not_ready', `${url}: ${why}`, { cause: error }),
      )
    }
    const request = get(url, { agent: false, signal: limit }, (response) => {
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk)
        bytes += chunk.byteLength
        if (bytes > MAX_BYTES) response.destroy(new Error(`the answer is larger than ${MAX_BYTES} bytes`))
      })
      response.on('error', fail)
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, value: parse(Buffer.concat(chunks).toString('utf8')) })
      })
    })
    request.on('error', fail)
  })
}

/** undefined for what is not JSON: an error page, for example. Python writes NaN and Infinity, which are not. */
const parse = (text: string): unknown => parseStrict(text) ?? parseStrict(text.replace(NO_JSON, 'null'))

const NO_JSON = /(?<=[:,[]\s*)-?(?:NaN|Infinity)(?=\s*[,\]}])/g

const parseStrict = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
