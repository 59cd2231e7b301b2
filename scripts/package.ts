/*
 * Writes a release that needs nothing but a Linux kernel and glibc: the bundles, the Node that runs them, the native
 * modules, and what starts the agent at boot. `agentctl install` sends it to a box, and the image is made of it.
 *
 *   node scripts/package.ts [--folder DIR] [--out DIR] [--built] [--level 1-9]
 *
 * By default dist/ is built and gpu-agent-VERSION-linux-ARCH.tar.gz with its .sha256 is put there, and agentctl-VERSION.mjs
 * with its own: the client as one file for a laptop that has Node. --folder writes the tree alone; --built takes dist/ as
 * it is.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const root = join(import.meta.dirname, '..')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

const { values } = parseArgs({
  options: {
    folder: { type: 'string' },
    out: { type: 'string', default: join(root, 'dist') },
    built: { type: 'boolean', default: false },
    level: { type: 'string', default: '6' },
  },
})

if (process.platform !== 'linux')
  throw new Error('the release is for Linux and is made there, or in the image')
const target = `linux-${process.arch}`
const name = `gpu-agent-${version}-${target}`

const main = (): void => {
  if (!values.built) run(process.execPath, [join(root, 'scripts/build.ts')])
  if (values.folder !== undefined) {
    writeTree(resolve(values.folder))
    return
  }
  const work = mkdtempSync(join(tmpdir(), 'gpu-agent-package-'))
  try {
    writeTree(join(work, name))
    const archive = join(resolve(values.out), `${name}.tar.gz`)
    mkdirSync(values.out, { recursive: true })
    packTree(work, archive)
    const client = join(resolve(values.out), `agentctl-${version}.mjs`)
    cpSync(join(root, 'dist/agentctl.mjs'), client)
    for (const made of [archive, client]) {
      const sha256 = createHash('sha256').update(readFileSync(made)).digest('hex')
      writeFileSync(`${made}.sha256`, `${sha256}  ${basename(made)}\n`)
      console.log(made)
    }
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Everything of the release, with nothing in it that only other platforms or developers need. */
const writeTree = (folder: string): void => {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(join(folder, 'bin'), { recursive: true })
  writeFileSync(join(folder, 'VERSION'), `${version}\n`)
  cpSync(join(root, 'LICENSE'), join(folder, 'LICENSE'))
  for (const program of ['agentd', 'agentctl']) {
    writeFileSync(join(folder, 'bin', program), wrapper(program))
    chmodSync(join(folder, 'bin', program), 0o755)
  }
  copy('dist', join(folder, 'lib'), (path) => !/\.(map|mjs|tar\.gz|sha256)$/.test(path))
  mkdirSync(join(folder, 'node/bin'), { recursive: true })
  cpSync(join(root, 'node_modules/node/bin/node'), join(folder, 'node/bin/node'), { dereference: true })
  chmodSync(join(folder, 'node/bin/node'), 0o755)
  for (const module of ['better-sqlite3', 'node-pty'])
    copyModule(module, join(folder, 'node_modules', module))
  copy('systemd', join(folder, 'systemd'), () => true)
}

/** Uses the Node of the release whatever the machine has, also through links to it. */
const wrapper = (program: string): string => `#!/bin/sh
release=$(dirname "$(dirname "$(readlink -f "$0")")")
exec "$release/node/bin/node" "$release/lib/${program}.js" "$@"
`

/** What is needed at run time: JavaScript, the manifest and this platform's binary. */
const copyModule = (module: string, to: string): void => {
  const from = join('node_modules', module)
  copy(join(from, 'lib'), join(to, 'lib'), (path) => !path.endsWith('.map'))
  for (const file of ['package.json', 'LICENSE']) cpSync(join(root, from, file), join(to, file))
  // One module has a file for each platform there, the other a folder.
  for (const entry of readdirSync(join(root, from, 'prebuilds')).filter(
    (one) => one.split('.')[0] === target,
  ))
    cpSync(join(root, from, 'prebuilds', entry), join(to, 'prebuilds', entry), { recursive: true })
}

const copy = (from: string, to: string, isWanted: (path: string) => boolean): void => {
  cpSync(join(root, from), to, { recursive: true, filter: isWanted })
}

/** The same tree gives the same bytes: sorted, owned by root, of one time. */
const packTree = (work: string, archive: string): void => {
  const epoch = process.env['SOURCE_DATE_EPOCH'] ?? '1700000000'
  run('tar', [
    ...['--sort=name', '--owner=0', '--group=0', '--numeric-owner', `--mtime=@${epoch}`, '--format=gnu'],
    ...['--use-compress-program', `gzip -n -${Number(values.level)}`, '-cf', archive, '-C', work, name],
  ])
}

const run = (program: string, args: readonly string[]): void => {
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
  if (status !== 0) throw new Error(`${program} failed: ${error?.message ?? `status ${status}`}`)
}

main()
