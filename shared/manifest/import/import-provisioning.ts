import { posix } from 'node:path'
import { z } from 'zod'
import { AgentError } from '../../contract/errors.ts'
import type { Imported, ImportedFile, LeftBehind } from './imported.ts'
import { importSource, nameOfSource, notReadable } from './imported.ts'

/*
 * The provisioning manifest of Vast.ai's base image (`version: 1` with downloads, git_repos, pip_packages …). Its strings
 * may hold `${NAME:-default}`, which a shell there fills in; here the default is taken.
 */

const texts = z.array(z.string()).nullish()
const Download = z.object({ url: z.string(), dest: z.string().nullish() })
const PipBlock = z.object({
  venv: z.string().nullish(),
  packages: texts,
  requirements: texts,
  args: z.string().nullish(),
})
/** A package by itself is a block of one. */
const asBlock = (value: unknown): unknown => (typeof value === 'string' ? { packages: [value] } : value)
const Provisioning = z.object({
  settings: z.object({ venv: z.string().nullish() }).nullish(),
  auth: z.record(z.string(), z.object({ token_env: z.string().nullish() }).nullish()).nullish(),
  downloads: z.array(Download).nullish(),
  conditional_downloads: z
    .array(
      z.object({
        when: z.string().nullish(),
        downloads: z.array(Download).nullish(),
        else_downloads: z.array(Download).nullish(),
      }),
    )
    .nullish(),
  git_repos: z
    .array(
      z.object({
        url: z.string(),
        dest: z.string().nullish(),
        ref: z.string().nullish(),
        post_commands: texts,
      }),
    )
    .nullish(),
  pip_packages: z.array(z.preprocess(asBlock, PipBlock)).nullish(),
  services: z
    .array(
      z.object({
        name: z.string(),
        workdir: z.string().nullish(),
        command: z.string().nullish(),
        pre_commands: texts,
        environment: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).nullish(),
      }),
    )
    .nullish(),
})
type Provisioning = z.infer<typeof Provisioning>
type Leave = (what: string, why: string) => void

const DEFAULT_VENV = '/venv/main'
const READ = [
  'version',
  'settings',
  'auth',
  'downloads',
  'conditional_downloads',
  'git_repos',
  'pip_packages',
  'services',
]
const WHY_NOT: Readonly<Record<string, string>> = {
  apt_packages: 'packages of the system belong into the image',
  conda_packages: 'the agent installs with pip into an overlay',
  write_files: 'the agent writes no files of a manifest; bake them into the image',
  write_files_late: 'the agent writes no files of a manifest; bake them into the image',
  extensions: 'programs of the provisioner are not run; agentctl workflow manifest reads workflows',
  env_merge: 'give the addresses under downloads',
  post_commands: 'shell commands are not carried over; write a process of kind command',
  on_failure: 'the agent tries again by itself; see budget for stopping the box',
}

/** Reads a provisioning manifest. @throws AgentError bad_request */
export const importProvisioning = (value: unknown): Imported => {
  const parsed = Provisioning.safeParse(mapDefaults(value))
  if (!parsed.success) throw notReadable('a provisioning manifest', parsed.error)
  const leftBehind: LeftBehind[] = []
  const leave: Leave = (what, why) => void leftBehind.push({ line: null, what, why })
  for (const key of Object.keys(value as object))
    if (!READ.includes(key)) leave(key, WHY_NOT[key] ?? 'the manifest has no such thing')
  const { data } = parsed
  const files: ImportedFile[] = []
  const snapshots: string[] = []
  const add = (download: z.infer<typeof Download>): void => {
    try {
      addDownload(download, { files, snapshots, leave })
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      leave(download.url.replace(/\?.*$/, ''), error.message)
    }
  }
  data.downloads?.forEach(add)
  for (const { when, downloads, else_downloads: others } of data.conditional_downloads ?? []) {
    downloads?.forEach(add)
    for (const { url } of others ?? [])
      leave(url, `it is what is fetched unless ${when ?? ''}; add it under “from” where it is the same file`)
  }
  return {
    files,
    snapshots,
    nodes: readNodes(data, leave),
    secrets: {
      required: [],
      optional: Object.values(data.auth ?? {}).flatMap((one) => one?.token_env ?? []),
    },
    python: readPython(data, leave),
    processes: readServices(data, leave),
    leftBehind,
  }
}

const REPOSITORY = /^https:\/\/(?:huggingface\.co|hf\.co)\/((?:datasets\/|spaces\/)?[^/]+\/[^/]+?)\/?$/

const addDownload = (
  { url, dest }: z.infer<typeof Download>,
  found: { readonly files: ImportedFile[]; readonly snapshots: string[]; readonly leave: Leave },
): void => {
  const repository = REPOSITORY.exec(url)?.[1]
  if (repository !== undefined) {
    found.snapshots.push(`hf://${repository}@main`)
    if (dest) found.leave(`${url} to ${dest}`, 'a whole repository goes into the cache under hf_home')
    return
  }
  const source = importSource(url)
  const name = nameOfSource(source)
  if (dest && !dest.endsWith('/')) found.files.push({ to: dest, from: [source] })
  else if (dest && name !== undefined) found.files.push({ to: `${dest}${name}`, from: [source] })
  else if (source.startsWith('hf://')) {
    const [, repo = '', path = ''] = /^(hf:\/\/[^/]+\/[^/]+)\/(.+)$/.exec(source) ?? []
    found.leave(`${url} into the cache`, `add under downloads: {snapshot: "${repo}", include: ["${path}"]}`)
  } else found.leave(url, 'its file name is not known: give a whole path')
}

const readNodes = ({ git_repos: repos }: Provisioning, leave: Leave): Imported['nodes'] =>
  (repos ?? []).flatMap(({ url, dest, ref, post_commands: commands }) => {
    for (const command of commands ?? []) leave(`${url}: ${command}`, WHY_NOT['post_commands'] ?? '')
    if (!/\/custom_nodes(\/|$)/.test(dest ?? '')) {
      leave(url, 'only custom nodes of ComfyUI are cloned; the rest belongs into the image')
      return []
    }
    if (!ref) leave(url, 'it has no ref, so main is assumed: pin the commit that you want')
    return [{ git: url.replace(/\.git$/, ''), ref: ref || 'main' }]
  })

const readPython = ({ pip_packages: blocks, settings }: Provisioning, leave: Leave): Imported['python'] => {
  const main = settings?.venv ?? DEFAULT_VENV
  const mine = (blocks ?? []).filter(({ venv, packages }) => {
    if (!venv || venv === main) return true
    leave(`pip_packages for ${venv}: ${(packages ?? []).join(', ')}`, 'the agent has one environment')
    return false
  })
  if (mine.length === 0) return null
  for (const { args } of mine) if (args) leave(`pip_packages: ${args}`, 'options of pip are not carried over')
  return {
    interpreter: `${main}/bin/python`,
    requirements: mine.flatMap(({ requirements }) => requirements ?? []),
    install: mine.flatMap(({ packages }) => packages ?? []),
  }
}

const readServices = ({ services }: Provisioning, leave: Leave): Imported['processes'] =>
  Object.fromEntries(
    (services ?? []).flatMap(({ name, workdir, command, pre_commands: before, environment }) => {
      for (const one of before ?? []) leave(`${name}: ${one}`, WHY_NOT['post_commands'] ?? '')
      const words = splitWords(command ?? '')
      if (words === undefined) {
        if (command) leave(`${name}: ${command}`, 'a command is a list of words here, without a shell')
        else leave(name, 'it has no command')
        return []
      }
      const folder = workdir ? { working_dir: posix.normalize(workdir) } : {}
      const env = environment ? { env: environment } : {}
      return [[name, { kind: 'command', ...folder, command: words, restart: 'always', ...env }] as const]
    }),
  )

/** The words of a plain command; undefined where only a shell understands it. */
const splitWords = (command: string): string[] | undefined => {
  if (command.trim() === '' || /[;&|<>`$(){}*?\\\n]/.test(command)) return undefined
  return [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
    (match) => match[1] ?? match[2] ?? match[3] ?? '',
  )
}

/** `${NAME:-default}` becomes its default in every string. */
const mapDefaults = (value: unknown): unknown => {
  if (typeof value === 'string') return value.replace(/\$\{\w+:[-=]([^}]*)\}/g, '$1')
  if (Array.isArray(value)) return value.map(mapDefaults)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, mapDefaults(one)]))
}
