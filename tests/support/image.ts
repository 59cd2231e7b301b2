import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findProgram } from '../../agent/platform/commands.ts'
import { repositoryFile, runProgram } from './agent-process.ts'
import { bareRootArchive, noBareRoot } from './bare-root.ts'
import { findRclone } from './rclone.ts'

const root = join(import.meta.dirname, '..', '..')
const path = process.env['PATH'] ?? ''
const npm = findProgram('npm', path)
const rclone = findRclone()
/** Of this machine, which may have an authority of its own between it and the registries. */
const CA_BUNDLE = '/etc/ssl/certs/ca-certificates.crt'

/** Why no image can be built here; undefined when one can. */
export const noImage: string | undefined =
  (process.env['GPU_AGENT_IMAGE'] === '1' ? undefined : 'it takes a minute; GPU_AGENT_IMAGE=1 asks for it') ??
  noBareRoot ??
  (rclone.path === undefined ? rclone.reason : undefined) ??
  ['buildah', 'npm', 'ip']
    .filter((name) => findProgram(name, path) === undefined)
    .map((name) => `${name} is not installed`)[0]

/** What the Dockerfile of this repository makes. */
export type Image = {
  /** The files of a container that was made of it and not started. */
  readonly folder: string
  readonly entrypoint: readonly string[]
  remove(): Promise<void>
}

/**
 * Builds the Dockerfile as it is, with stand-ins in the place of the images that a registry would give: a bare Debian, the
 * same with Node and npm, and one that holds rclone and nothing else.
 */
export const buildImage = async (): Promise<Image> => {
  const folder = mkdtempSync(join(tmpdir(), 'gpu-agent-image-'))
  const storage = join(folder, 'storage.conf')
  writeFileSync(
    storage,
    `[storage]\ndriver = "${driver()}"\ngraphroot = "${folder}/graph"\nrunroot = "${folder}/run"\n`,
  )
  /** Without an engine, a daemon and namespaces of its own: in a chroot. */
  const buildah = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await runProgram(['buildah', ...args], {
      cwd: root,
      env: { CONTAINERS_STORAGE_CONF: storage, BUILDAH_ISOLATION: 'chroot' },
    })
    if (code !== 0) throw new Error(`buildah ${args[0] ?? ''} ended with ${code}\n${stdout}${stderr}`)
    return stdout.trim()
  }
  const makeImage = async (
    name: string,
    from: string,
    add: (to: string) => Promise<unknown>,
  ): Promise<void> => {
    const container = await buildah('from', from)
    await add(container)
    await buildah('commit', '--quiet', container, name)
    await buildah('rm', container)
  }

  const base = 'localhost/bare-debian'
  await Promise.all([
    makeImage('docker.io/rclone/rclone:stand-in', 'scratch', (to) =>
      buildah('copy', '--quiet', to, rclone.path ?? '', '/usr/local/bin/rclone'),
    ),
    makeImage(base, 'scratch', (to) => buildah('add', '--quiet', to, bareRootArchive, '/')),
  ])
  await makeImage(nodeImage(), base, async (to) => {
    await buildah('copy', '--quiet', to, join(root, 'node_modules/node/bin/node'), '/usr/local/bin/node')
    const folderOfNpm = '/usr/local/lib/node_modules/npm'
    await buildah('copy', '--quiet', to, join(realpathSync(npm ?? ''), '../..'), folderOfNpm)
    await buildah('run', to, '--', 'ln', '-s', `${folderOfNpm}/bin/npm-cli.js`, '/usr/local/bin/npm')
    if (!existsSync(CA_BUNDLE)) return
    await buildah('copy', '--quiet', to, CA_BUNDLE, CA_BUNDLE)
    await buildah('config', '--env', `NODE_EXTRA_CA_CERTS=${CA_BUNDLE}`, to)
  })

  const args = [`BASE=${base}`, 'RCLONE_VERSION=stand-in'].flatMap((arg) => ['--build-arg', arg])
  await buildah(
    'build',
    '--pull-never',
    '--network',
    'host',
    '--jobs',
    '2',
    ...args,
    '--tag',
    'gpu-agent',
    '.',
  )
  const container = await buildah('from', 'localhost/gpu-agent')
  const { OCIv1: image } = JSON.parse(await buildah('inspect', container)) as {
    OCIv1: { config: { Entrypoint: string[] } }
  }
  return {
    folder: await buildah('mount', container),
    entrypoint: image.config.Entrypoint,
    remove: async () => {
      await buildah('rm', '--all')
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
    },
  }
}

/** Copies of whole trees for layers (vfs) take a minute more, and are for kernels that cannot do better. */
const driver = (): string =>
  /\toverlay$/m.test(readFileSync('/proc/filesystems', 'utf8')) ? 'overlay' : 'vfs'

/** The image that the Dockerfile builds in, by its whole name. */
const nodeImage = (): string => {
  const name = /^FROM (node:\S+) AS build$/m.exec(repositoryFile('Dockerfile'))?.[1]
  if (name === undefined) throw new Error('the Dockerfile builds in no image of Node')
  return `docker.io/library/${name}`
}
