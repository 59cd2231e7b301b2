import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import type { FetchTask } from './fetch.ts'
import type { Served } from './serve.ts'

/** A program that fetches the files of a hub into a folder. */
export type Tool = {
  readonly name: string
  readonly command: (served: Served, context: ToolContext) => readonly string[]
  readonly environment: (served: Served, context: ToolContext) => Readonly<Record<string, string>>
}

export type ToolContext = {
  readonly folder: string
  /** The certificate to trust, as a file. */
  readonly certificatePath: string
}

const root = join(import.meta.dirname, '../..')

/** The agent's engine as it is released: bundled, with its worker beside it. */
export const prepareAgent = async (): Promise<Tool> => {
  // Under node_modules, so that the native module is found.
  const out = join(root, 'node_modules/.cache/bench-downloads')
  mkdirSync(out, { recursive: true })
  const entries = { fetch: 'bench/downloads/fetch.ts', 'hash-worker': 'agent/downloads/hash-worker.ts' }
  for (const [name, source] of Object.entries(entries))
    await build({
      entryPoints: [join(root, source)],
      outfile: join(out, `${name}.js`),
      bundle: true,
      minify: true,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      external: ['better-sqlite3'],
      logLevel: 'error',
      banner: {
        js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
      },
    })
  cpSync(join(root, 'agent/platform/migrations'), join(out, 'migrations'), { recursive: true })
  writeFileSync(join(out, 'package.json'), '{"type":"module"}')
  return {
    name: 'agent',
    command: ({ url, dataUrl, files }, { folder }) => {
      const task: FetchTask = { url, dataUrl, names: files.map((file) => file.name), folder }
      return [process.execPath, join(out, 'fetch.js'), JSON.stringify(task)]
    },
    environment: ({ certificate }, { certificatePath }) =>
      certificate === null ? {} : { NODE_EXTRA_CA_CERTS: certificatePath },
  }
}

const makeAria2 = (name: string, context: { readonly checks: boolean }): Tool => ({
  name,
  command: ({ dataUrl, files, certificate }, { folder, certificatePath }) => {
    const list = join(folder, '.urls')
    writeFileSync(
      list,
      files
        .map(
          ({ name, sha256 }) =>
            `${dataUrl}/data/${name}\n  out=${name}\n${context.checks ? `  checksum=sha-256=${sha256}\n` : ''}`,
        )
        .join(''),
    )
    const trust = certificate === null ? [] : [`--ca-certificate=${certificatePath}`]
    return ['aria2c', '-q', '-x16', '-s16', '-j8', '-d', folder, '-i', list, ...trust]
  },
  environment: () => ({}),
})

/** aria2 with as many connections as it allows, checking the hash it is given. */
export const aria2 = makeAria2('aria2', { checks: true })
/** The same without looking at what came. */
export const aria2Raw = makeAria2('aria2-raw', { checks: false })

/** Hugging Face's own client. It compares sizes only. */
export const hf = (program: string): Tool => ({
  name: 'hf',
  command: ({ files }, { folder }) => [
    program,
    'download',
    'bench/files',
    ...files.map((file) => file.name),
    '--local-dir',
    folder,
    '--quiet',
  ],
  environment: ({ url, certificate }, { folder, certificatePath }) => ({
    HF_ENDPOINT: url,
    HF_HOME: join(folder, '.hf'),
    HF_HUB_DISABLE_TELEMETRY: '1',
    ...(certificate === null ? {} : { SSL_CERT_FILE: certificatePath }),
  }),
})

/** True when a program can be started. */
export const isThere = (program: string): boolean => {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
