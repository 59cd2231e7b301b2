import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { readCertificate } from './certificate.ts'
import { answerCivitai } from './civitai.ts'
import { makeContent, textContent } from './content.ts'
import { createFaultPicker, type Place } from './faults.ts'
import {
  type Exchange,
  GOOD_TOKEN,
  type HubFile,
  type HubOptions,
  type HubRequest,
  type HubState,
  type ServedFile,
  STRANGER_TOKEN,
} from './hub-model.ts'
import { answerHub } from './hugging-face.ts'
import { serveContent } from './serve-content.ts'

/**
 * Starts a fake Hugging Face with its content host, a mirror and a fake Civitai, each on its own port of loopback.
 * It answers as the real ones are known to, counts every byte it sends, and breaks what `faults` say.
 */
export const startHub = async (options: HubOptions) => {
  const files = options.files.map(prepareFile)
  const requests: HubRequest[] = []
  const certificate = options.https ? readCertificate() : undefined
  const state: HubState = {
    files,
    tokens: options.tokens ?? [GOOD_TOKEN, STRANGER_TOKEN],
    acceptedTokens: options.acceptedTokens ?? [GOOD_TOKEN],
    unknownQuestions: options.unknownQuestions ?? [],
    urls: { hub: '', cdn: '', mirror: '', civitai: '' },
    nextId: 1,
  }

  const listen = async (
    at: Place,
    port: number,
    answer: Answer,
  ): Promise<{ server: Server; url: string }> => {
    const listener: RequestListener = (request, response) => {
      const record: HubRequest = {
        at,
        path: request.url ?? '',
        range: request.headers.range ?? null,
        ifRange: request.headers['if-range']?.toString() ?? null,
        authorization: request.headers.authorization ?? null,
        cookie: request.headers.cookie ?? null,
        userAgent: request.headers['user-agent'] ?? '',
        status: 0,
        sentBytes: 0,
      }
      requests.push(record)
      response.on('error', () => undefined)
      Promise.resolve(answer({ request, response, record, state, at }))
        .catch(() => response.destroy())
        .finally(() => (record.status = response.statusCode))
    }
    const server: Server = certificate
      ? createTlsServer({ key: certificate.key, cert: certificate.cert }, listener)
      : createServer(listener)
    server.keepAliveTimeout = 30_000
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    const { port: bound } = server.address() as AddressInfo
    return { server, url: `${certificate ? 'https' : 'http'}://127.0.0.1:${bound}` }
  }

  const port = options.port ?? 0
  const at = (offset: number): number => (port === 0 ? 0 : port + offset)
  const hub = await listen('hub', at(0), answerHub)
  const cdn = await listen('cdn', at(1), answerData)
  const mirror = await listen('mirror', at(2), answerData)
  const civitai = await listen('civitai', at(3), answerCivitai)
  Object.assign(state.urls, { hub: hub.url, cdn: cdn.url, mirror: mirror.url, civitai: civitai.url })
  const servers = [hub, cdn, mirror, civitai].map((one) => one.server)

  return {
    url: hub.url,
    cdnUrl: cdn.url,
    mirrorUrl: mirror.url,
    civitaiUrl: civitai.url,
    /** What AGENT_ALLOW_HOSTS must list so that the content host and the mirror may be used. */
    allowHosts: [cdn.url, mirror.url].map((url) => new URL(url).host),
    /** The certificate to trust (NODE_EXTRA_CA_CERTS wants it in a file); undefined over plain http. */
    certificate: certificate?.cert,
    files,
    requests,
    file: (path: string): ServedFile => {
      const file = files.find((one) => one.path === path)
      if (!file) throw new Error(`the hub has no file ${path}`)
      return file
    },
    /** Bytes that went out at this place; of every file together. */
    sentBytes: (place: Place): number =>
      requests.filter((one) => one.at === place).reduce((sum, one) => sum + one.sentBytes, 0),
    close: async (): Promise<void> => {
      await Promise.all(
        servers.map((server) => {
          const closed = new Promise((resolve) => server.close(resolve))
          server.closeAllConnections()
          return closed
        }),
      )
    },
  }
}

export type Hub = Awaited<ReturnType<typeof startHub>>

type Answer = (exchange: Exchange) => void | Promise<void>

const prepareFile = (file: HubFile): ServedFile => {
  const faults = file.faults ?? []
  return {
    ...file,
    faults,
    pick: createFaultPicker(faults),
    used: new Map(),
    content:
      file.text === undefined
        ? makeContent({
            name: file.path,
            sizeBytes: file.sizeBytes ?? 2 ** 20,
            ...(file.seed === undefined ? {} : { seed: file.seed }),
          })
        : textContent(file.text),
  }
}

/** The content host (`/data/<path>?…&Signature=…`) and the mirror (`/<path>`). */
const answerData: Answer = async (exchange) => {
  const { request, response, state, at } = exchange
  const url = new URL(request.url ?? '/', 'http://hub')
  const path = decodeURIComponent(url.pathname).replace(at === 'cdn' ? /^\/data\// : /^\//, '')
  const file = state.files.find((one) => one.path === path)
  if (!file) return void response.writeHead(404).end('no such key')
  if (at === 'cdn' && refuseSigned(exchange, file, url)) return
  await serveContent(exchange, file)
}

/** As a signed address does: refuses a second kind of authorization, a missing signature, and one that has expired. */
const refuseSigned = ({ request, response }: Exchange, file: ServedFile, url: URL): boolean => {
  const xml = (status: number, code: string): true => {
    response.writeHead(status, { 'content-type': 'application/xml' })
    response.end(`<?xml version="1.0"?><Error><Code>${code}</Code></Error>`)
    return true
  }
  if (request.headers.authorization) return xml(400, 'InvalidArgument')
  const signature = url.searchParams.get('Signature')
  if (!signature) return xml(403, 'AccessDenied')
  if (Number(url.searchParams.get('Expires') ?? Infinity) * 1000 < Date.now()) return xml(403, 'AccessDenied')
  const uses = (file.used.get(signature) ?? 0) + 1
  file.used.set(signature, uses)
  const expiry = file.faults.find((fault) => fault.does.kind === 'expire')
  // Which of the file's addresses this is, in the order of their first use.
  const nth = [...file.used.keys()].indexOf(signature)
  return expiry?.does.kind === 'expire' &&
    nth < (expiry.times ?? Infinity) &&
    uses > expiry.does.afterRequests
    ? xml(403, 'AccessDenied')
    : false
}
