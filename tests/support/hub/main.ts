/*
 * The fake hub as a program:
 *
 *   npm run hub -- [--port N] [--https] [--config FILE] [owner/repo/path[:size]]…
 *
 * Serves the files (64MiB each unless a size is given) and those of the JSON file, which has the shape of HubOptions,
 * faults included. Prints the environment that points an agent at it, and a line for every request.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { parseSize } from '../../../shared/contract/units.ts'
import { GOOD_TOKEN, type HubFile, type HubOptions } from './hub-model.ts'
import { startHub } from './hub.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: 'string' }, https: { type: 'boolean' }, config: { type: 'string' } },
})
const config = values.config
  ? (JSON.parse(readFileSync(values.config, 'utf8')) as Partial<HubOptions>)
  : ({} satisfies Partial<HubOptions>)

const named = positionals.map((text): HubFile => {
  const [, repo, path, size] = /^([^/]+\/[^/]+)\/(.+?)(?::(\w+))?$/.exec(text) ?? []
  if (!repo || !path) throw new Error(`${text} is not owner/repo/path[:size]`)
  return { repo, path, sizeBytes: parseSize(size ?? '64MiB') ?? 2 ** 26 }
})

const hub = await startHub({
  ...config,
  files: [...(config.files ?? []), ...named],
  ...(values.https ? { https: true } : {}),
  ...(values.port ? { port: Number(values.port) } : {}),
})
console.log(`HF_ENDPOINT=${hub.url}`)
console.log(`CIVITAI_ENDPOINT=${hub.civitaiUrl}`)
console.log(`AGENT_ALLOW_HOSTS=${hub.allowHosts.join(',')}`)
console.log(`HF_TOKEN=${GOOD_TOKEN}`)
if (hub.certificate) {
  const file = join(tmpdir(), `fake-hub-${process.pid}.pem`)
  writeFileSync(file, hub.certificate)
  console.log(`NODE_EXTRA_CA_CERTS=${file}`)
}
console.log(`# mirror: ${hub.mirrorUrl}/PATH`)
for (const file of hub.files)
  console.log(
    `# hf://${file.repo}@main/${file.path} ${file.content.sizeBytes} bytes sha256 ${file.content.sha256}`,
  )

let shown = 0
setInterval(() => {
  for (const request of hub.requests.slice(shown))
    console.log(`${request.at} ${request.status} ${request.range ?? '-'} ${request.path.replace(/\?.*/, '')}`)
  shown = hub.requests.length
}, 1000)
const stop = (): void => {
  void hub.close().then(() => process.exit(0))
}
process.once('SIGINT', stop)
process.once('SIGTERM', stop)
