/*
 * Writes dist/: one bundle a program with its source map, the native modules and data files beside them.
 * Native modules stay packages (their .node files cannot be bundled) and are found in node_modules.
 */
import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import type { BuildOptions, Plugin } from 'esbuild'

const root = join(import.meta.dirname, '..')
const dist = join(root, 'dist')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

/** zod brings its messages in 50 languages; ours are written here, and each program would keep 300 kB of them in memory. */
const withoutLocales: Plugin = {
  name: 'without-locales',
  setup: (bundle) => {
    bundle.onLoad({ filter: /zod\/v4\/locales\/index\.js$/ }, () => ({ contents: '' }))
  },
}

/**
 * node's own undici takes 15 ms at each start of agentctl. Two things load it that nobody uses: an ES import of node:http
 * reads everything that it exports, its WebSocket too, where a `require` reads what is used; and hono's client makes
 * Headers for a fetch, which ours (client/api.ts) does not look at.
 */
const withoutUndici: Plugin = {
  name: 'without-undici',
  setup: (bundle) => {
    bundle.onResolve({ filter: /^(node:)?http$/ }, () => ({ path: 'node:http', namespace: 'required' }))
    bundle.onLoad({ filter: /.*/, namespace: 'required' }, ({ path }) => ({
      contents: `module.exports = __builtin(${JSON.stringify(path)})`,
    }))
    bundle.onLoad({ filter: /hono\/dist\/client\/client\.js$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8')
      if (!source.includes('new Headers()')) throw new Error(`${path} makes no Headers any more`)
      return { contents: source.replace('new Headers()', 'new Map()') }
    })
  },
}

const shared = {
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  sourcemap: true,
  minify: true,
  external: ['better-sqlite3', 'node-pty'],
  define: { __VERSION__: JSON.stringify(version) },
  logLevel: 'warning',
  plugins: [withoutLocales],
  // Some dependencies are CommonJS and call require for node's own modules. `__builtin` is the same by a name that esbuild
  // does not follow, for withoutUndici.
  banner: {
    js: "#!/usr/bin/env node\nimport { createRequire as __createRequire } from 'node:module'; const __builtin = __createRequire(import.meta.url), require = __builtin;",
  },
} satisfies BuildOptions

/** Programs and workers: the name in dist/ → the source. */
const ENTRIES: Readonly<Record<string, string>> = {
  agentd: 'agent/main.ts',
  'hash-worker': 'agent/downloads/hash-worker.ts',
  'abi-worker': 'agent/python/abi/abi-worker.ts',
}

rmSync(dist, { recursive: true, force: true })
mkdirSync(dist)
for (const [name, source] of Object.entries(ENTRIES))
  await build({ ...shared, entryPoints: [join(root, source)], outfile: join(dist, `${name}.js`) })
// There are many shims and each lives long: without the loader of ES modules one is 2 MB smaller.
await build({
  ...shared,
  format: 'cjs',
  banner: {},
  entryPoints: [join(root, 'agent/processes/shim/main.ts')],
  outfile: join(dist, 'shim.cjs'),
})
// The client loads its commands when they are asked for, so it is split into chunks; for a laptop it is also one file.
const client = {
  ...shared,
  target: 'node20',
  external: [],
  plugins: [withoutLocales, withoutUndici],
} satisfies BuildOptions
await build({
  ...client,
  entryPoints: { agentctl: join(root, 'client/launch.ts') },
  outdir: dist,
  splitting: true,
  chunkNames: 'agentctl-[name]-[hash]',
})
await build({
  ...client,
  sourcemap: false,
  entryPoints: [join(root, 'client/launch.ts')],
  outfile: join(dist, 'agentctl.mjs'),
})
cpSync(join(root, 'agent/platform/migrations'), join(dist, 'migrations'), { recursive: true })
for (const name of readdirSync(join(root, 'agent/python')).filter((file) => file.endsWith('.py')))
  cpSync(join(root, 'agent/python', name), join(dist, `python-${name}`))
for (const name of ['agentd.js', 'agentctl.js', 'agentctl.mjs']) chmodSync(join(dist, name), 0o755)

for (const name of readdirSync(dist).filter((file) => /\.[cm]?js$/.test(file)))
  console.log(`dist/${name}  ${Math.round(statSync(join(dist, name)).size / 1000)} kB`)
