import { existsSync } from 'node:fs'
import { readdir, readFile, realpath, stat } from 'node:fs/promises'
import { isAbsolute, join, relative } from 'node:path'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { WorkflowReport } from '../../shared/contract/records.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { RefusedFact } from '../../shared/preflight/source-facts.ts'
import { CORE_NODES } from '../../shared/workflows/core-nodes.ts'
import type { WorkflowNode } from '../../shared/workflows/read-workflow.ts'
import { readWorkflow, workflowText } from '../../shared/workflows/read-workflow.ts'
import { findQuoted } from './find-quoted.ts'
import type { WantedFile } from './locate-files.ts'

/** A workflow file of the manifest, as it lies on the box. */
export type WorkflowFile =
  | { readonly state: 'absent' }
  | { readonly state: 'read'; readonly nodes: readonly WorkflowNode[] }
  | RefusedFact

/** What can be told of a ComfyUI before it is started. */
export type ComfyUIFacts = {
  /** By the path of the manifest. */
  readonly workflows: ReadonlyMap<string, WorkflowFile>
  /** Node classes of the workflows that its Python files name, its own and those of its packs. */
  readonly named: ReadonlySet<string>
  /** The packs under custom_nodes: the name of the folder, and what the pack calls itself. */
  readonly packs: readonly { readonly folder: string; readonly names: readonly string[] }[]
  /** Models that are there or are going to be fetched, by their path under its models folder. */
  readonly models: readonly string[]
  /** Downloads that lie outside of it. */
  readonly elsewhere: readonly string[]
  readonly modelsFolder: string
  /** True where it was told to look for models in other folders too. */
  readonly looksElsewhere: boolean
  /** What the one that runs has of the workflows; null where none answers. */
  readonly running: { readonly nodes: ReadonlySet<string>; readonly models: ReadonlySet<string> } | null
}

/** Asks a ComfyUI that runs. @throws AgentError where none does, or it does not answer */
export type AskRunning = (
  workflow: { readonly text: string; readonly file: string; readonly process: string },
  context: { readonly signal: AbortSignal },
) => Promise<WorkflowReport>

type ComfyUISpec = Extract<Manifest['processes'][string], { kind: 'comfyui' }>

/** A busy ComfyUI must not hold up a plan. */
const RUNNING_ANSWERS_WITHIN_MS = 10_000

/** Looks at every ComfyUI of the manifest that declares workflows. Changes nothing and runs nothing of it. */
export const gatherWorkflows = async (
  wanted: { readonly manifest: Manifest; readonly files: readonly WantedFile[] },
  context: { readonly askRunning: AskRunning; readonly signal: AbortSignal },
): Promise<ReadonlyMap<string, ComfyUIFacts>> =>
  new Map(
    await Promise.all(
      Object.entries(wanted.manifest.processes).flatMap(([name, spec]) =>
        // A folder that is not there is told as that.
        spec.kind === 'comfyui' && spec.workflows.length > 0 && existsSync(spec.working_dir)
          ? [
              gatherOne(name, { ...context, spec, files: wanted.files }).then(
                (facts) => [name, facts] as const,
              ),
            ]
          : [],
      ),
    ),
  )

const gatherOne = async (
  process: string,
  context: Parameters<typeof gatherWorkflows>[1] & {
    readonly spec: ComfyUISpec
    readonly files: readonly WantedFile[]
  },
): Promise<ComfyUIFacts> => {
  const { spec, files } = context
  const read = await Promise.all(spec.workflows.map(async (file) => [file, await readFileAt(file)] as const))
  const types = read.flatMap(([, { nodes }]) => nodes.map(({ type }) => type))
  const modelsFolder = join(spec.working_dir, 'models')
  const roots = [modelsFolder, await realpath(modelsFolder).catch(() => modelsFolder)]
  const fetched = files.map(({ path }) => ({ path, inside: insideOf(path, roots) }))
  return {
    workflows: new Map(read.map(([file, { fact }]) => [file, fact])),
    named: await findQuoted(
      types.filter((type) => !CORE_NODES.has(type)),
      pythonOf(spec.working_dir),
    ),
    packs: await listPacks(join(spec.working_dir, 'custom_nodes')),
    models: [
      ...(await listFiles(modelsFolder)),
      ...fetched.flatMap(({ inside }) => (inside === null ? [] : [inside])),
    ],
    elsewhere: fetched.flatMap(({ path, inside }) => (inside === null ? [path] : [])),
    modelsFolder,
    looksElsewhere: looksElsewhere(spec),
    running: await askAll(read, { ...context, process }),
  }
}

type ReadFile = {
  readonly fact: WorkflowFile
  readonly text: string | null
  readonly nodes: readonly WorkflowNode[]
}

const readFileAt = async (file: string): Promise<ReadFile> => {
  const bytes = await readFile(file).catch(() => undefined)
  if (bytes === undefined) return { fact: { state: 'absent' }, text: null, nodes: [] }
  try {
    const text = workflowText(bytes, file)
    const nodes = readWorkflow(text, file)
    return { fact: { state: 'read', nodes }, text, nodes }
  } catch (error) {
    if (!(error instanceof AgentError)) throw error
    return { fact: { state: 'refused', problem: problemFrom(error, file) }, text: null, nodes: [] }
  }
}

/** ComfyUI's own nodes, and those of its packs. */
const pythonOf = (folder: string): readonly string[] =>
  ['nodes.py', 'comfy_extras', 'comfy_api_nodes', 'custom_nodes'].map((name) => join(folder, name))

const listPacks = async (folder: string): Promise<ComfyUIFacts['packs']> => {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const folders = entries
    .filter((entry) => entry.isDirectory() || entry.isSymbolicLink())
    .map(({ name }) => name)
    .filter((name) => !name.endsWith('.disabled') && name !== '__pycache__')
  return Promise.all(
    folders.map(async (name) => {
      const project = await readFile(join(folder, name, 'pyproject.toml'), 'utf8').catch(() => '')
      const own = /^\s*name\s*=\s*["']([^"']+)["']/m.exec(project)?.[1]
      return { folder: name, names: own === undefined ? [name] : [name, own] }
    }),
  )
}

const listFiles = async (folder: string): Promise<readonly string[]> => {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const found = await Promise.all(
    entries.map(async (entry) => {
      // ComfyUI follows the links of its models folder, which often lead to another disk.
      const path = join(folder, entry.name)
      const stats = await stat(path).catch(() => undefined)
      if (stats?.isDirectory() !== true) return stats === undefined ? [] : [entry.name]
      const inner = await readdir(path, { recursive: true }).catch(() => [])
      return inner.map((name) => join(entry.name, name))
    }),
  )
  return found.flat()
}

const insideOf = (path: string, roots: readonly string[]): string | null => {
  for (const root of roots) {
    const between = relative(root, path)
    if (between !== '' && !between.startsWith('..') && !isAbsolute(between)) return between
  }
  return null
}

const OTHER_FOLDERS = ['--extra-model-paths-config', '--base-directory', '--models-directory']

const looksElsewhere = (spec: ComfyUISpec): boolean =>
  spec.args.some((arg) => OTHER_FOLDERS.some((flag) => arg === flag || arg.startsWith(`${flag}=`))) ||
  ['extra_model_paths.yaml', 'extra_paths.yaml'].some((name) => existsSync(join(spec.working_dir, name)))

const askAll = async (
  read: readonly (readonly [string, ReadFile])[],
  { process, askRunning, signal }: Parameters<typeof gatherWorkflows>[1] & { readonly process: string },
): Promise<ComfyUIFacts['running']> => {
  try {
    const soon = AbortSignal.any([signal, AbortSignal.timeout(RUNNING_ANSWERS_WITHIN_MS)])
    const reports = await Promise.all(
      read.flatMap(([file, { text }]) =>
        text === null ? [] : [askRunning({ text, file, process }, { signal: soon })],
      ),
    )
    const presentOf = (list: 'nodes' | 'models') =>
      new Set(
        reports.flatMap((report) => report[list].flatMap(({ name, present }) => (present ? [name] : []))),
      )
    return { nodes: presentOf('nodes'), models: presentOf('models') }
  } catch {
    // None runs, or it does not answer now: it is no witness then, and what lies on the disk is.
    signal.throwIfAborted()
    return null
  }
}
