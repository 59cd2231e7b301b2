/* Fetches bodies of many sizes over one TLS connection: fetch-over-tls.ts URL; prints how many bytes came. */
import { createHttpClient } from '../../../../agent/platform/http-client.ts'

const url = process.argv[2] ?? ''
const endpoints = { hf: 'https://huggingface.co', civitai: 'https://civitai.com' }
const client = createHttpClient({
  endpoints,
  allowHosts: [new URL(url).host],
  timeouts: { headersMs: 5_000 },
})
let total = 0
for (let size = 2 ** 20; size < 2 ** 20 + 400_000; size += 3_001) {
  const reply = await client.fetch(
    { url: `${url}/${size}`, headers: {} },
    { signal: AbortSignal.timeout(60_000) },
  )
  for (let piece = await reply.read(); piece !== undefined; piece = await reply.read()) {
    total += piece.byteLength
    // A slow disk: the connection runs full and is told to pause.
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  reply.discard()
}
await client.close()
console.log(total)
