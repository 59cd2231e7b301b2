import { existsSync, readFileSync } from 'node:fs'
import { readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, ERROR_CODES, problemFrom } from '../../shared/contract/errors.ts'
import type { Report } from '../../shared/contract/events.ts'
import { makeFolders } from '../../shared/make-folders.ts'
import type { CustomNode } from '../../shared/manifest/schema.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'
import type { CommandResult } from '../platform/commands.ts'
import { runCommand } from '../platform/commands.ts'
import { atomicWrite, joinInside, refuseSymlinks } from '../platform/files.ts'
import { cleanEnvironment } from './clean-environment.ts'
import { withoutLogin } from './requirement-files.ts'

export type CloneContext = {
  /** `<working_dir>/custom_nodes` */
  readonly folder: string
  /** The absolute path of git. */
  readonly git: string
  /** Hosts that may be reached without https: mirrors inside a network, and tests. */
  readonly allowHosts: readonly string[]
  readonly environment?: Readonly<Record<string, string | undefined>>
  readonly signal: AbortSignal
  readonly report: Report
}

const COMMIT = /^[0-9a-f]{40}$/i
/** A repository of some hundred megabytes over a slow line. */
const FETCH_TIMEOUT_MS = 30 * 60_000

/**
 * Brings every custom node to its commit, side by side in `folder`; one that is there already costs one look.
 * What failed comes back as problems: an error for a required node, a warning for an optional one.
 */
export const cloneCustomNodes = async (
  nodes: readonly CustomNode[],
  context: CloneContext,
): Promise<readonly Problem[]> => {
  const problems: Problem[] = []
  await makeFolders(context.folder)
  for (const node of nodes) {
    const name = nodeFolderName(node.git)
    try {
      problems.push(...(await bringNode(node, { ...context, name })))
    } catch (error) {
      context.signal.throwIfAborted()
      problems.push(problemFrom(error, name, node.optional ? 'warning' : 'error'))
    }
  }
  return problems
}

type NodeContext = CloneContext & { readonly name: string }

const bringNode = async (node: CustomNode, context: NodeContext): Promise<Problem[]> => {
  refuseAddress(node.git, context.allowHosts)
  const path = joinInside(context.folder, context.name)
  await refuseSymlinks(context.folder, path)
  const pinned = COMMIT.test(node.ref)
  if (existsSync(join(path, '.git'))) {
    const head = (await git(['rev-parse', 'HEAD'], { ...context, cwd: path })).stdout.trim()
    const kept = pinned
      ? node.ref.toLowerCase()
      : (readResolved(path, node) ?? (await resolveRef(node, context)))
    if (head !== kept) {
      await refuseChanges(path, context)
      await checkOut(path, { ...context, node, commit: kept })
    }
    if (pinned) return []
    writeResolved(path, { git: node.git, ref: node.ref, commit: kept })
    return [unpinned(node, kept, context.name)]
  }
  if (existsSync(path) && (await readdir(path)).length > 0)
    throw new AgentError('custom_node_failed', `${path} exists and is no clone of ${node.git}`, {
      hint: 'Move it away; what it holds was not touched.',
    })
  const commit = pinned ? node.ref.toLowerCase() : await resolveRef(node, context)
  // Made under another name: what stops in the middle never looks like a node.
  const partial = join(context.folder, `.${context.name}.partial`)
  await rm(partial, { recursive: true, force: true })
  try {
    await git(['init', '--quiet', '--', partial], { ...context, cwd: context.folder })
    await checkOut(partial, { ...context, node, commit })
    if (!pinned) writeResolved(partial, { git: node.git, ref: node.ref, commit })
    await rename(partial, path)
  } finally {
    await rm(partial, { recursive: true, force: true })
  }
  return pinned ? [] : [unpinned(node, commit, context.name)]
}

const checkOut = async (
  path: string,
  context: NodeContext & { readonly node: CustomNode; readonly commit: string },
): Promise<void> => {
  const { node, commit } = context
  const at = { ...context, cwd: path }
  const alone = await tryGit(['fetch', '--quiet', '--depth', '1', '--', node.git, commit], at)
  // Not every server hands out single commits; then the whole history comes.
  if (alone.exitCode !== 0)
    await git(['fetch', '--quiet', '--tags', '--', node.git, '+refs/heads/*:refs/remotes/origin/*'], at)
  await git(['checkout', '--quiet', '--detach', commit], at)
}

type Resolved = { readonly git: string; readonly ref: string; readonly commit: string }

const resolvedFile = (path: string): string => join(path, '.git', 'gpu-agent-ref.json')

/** What the same branch or tag meant when it was first resolved: applying again must not bring other code. */
const readResolved = (path: string, node: CustomNode): string | undefined => {
  try {
    const known = JSON.parse(readFileSync(resolvedFile(path), 'utf8')) as Partial<Resolved>
    const same = known.git === node.git && known.ref === node.ref
    return same && known.commit !== undefined && COMMIT.test(known.commit) ? known.commit : undefined
  } catch {
    // A clone that was made by hand has none: the ref is resolved now.
    return undefined
  }
}

const writeResolved = (path: string, resolved: Resolved): void =>
  atomicWrite(resolvedFile(path), JSON.stringify(resolved))

/** The commit that a branch or a tag means now. */
const resolveRef = async (node: CustomNode, context: NodeContext): Promise<string> => {
  const patterns = [`refs/heads/${node.ref}`, `refs/tags/${node.ref}`, `refs/tags/${node.ref}^{}`]
  const listed = await git(['ls-remote', '--', node.git, ...patterns], { ...context, cwd: context.folder })
  const found = new Map(
    listed.stdout
      .trim()
      .split('\n')
      .map((line) => line.split('\t'))
      .map(([commit = '', ref = '']): [string, string] => [ref, commit]),
  )
  // A tag with a message points to itself; what it stands for carries ^{}.
  const commit = [...patterns]
    .reverse()
    .map((ref) => found.get(ref))
    .find((one) => one !== undefined)
  if (commit === undefined || !COMMIT.test(commit))
    throw new AgentError('custom_node_failed', `${node.git} has no branch or tag ${node.ref}`)
  return commit
}

const refuseAddress = (address: string, allowHosts: readonly string[]): void => {
  const url = URL.canParse(address) ? new URL(address) : undefined
  if (url === undefined || url.username !== '' || url.password !== '')
    throw new AgentError('custom_node_failed', `${withoutLogin(address)} is not a plain https address`)
  const allowed =
    url.protocol === 'https:' ||
    (url.protocol === 'http:' && (allowHosts.includes(url.host) || allowHosts.includes(url.hostname)))
  if (!allowed)
    throw new AgentError(
      'forbidden_address',
      `${address} is not https and its host is not in AGENT_ALLOW_HOSTS`,
    )
}

const refuseChanges = async (path: string, context: NodeContext): Promise<void> => {
  const changed = (await git(['status', '--porcelain', '--untracked-files=no'], { ...context, cwd: path }))
    .stdout
  if (changed.trim() !== '')
    throw new AgentError(
      'custom_node_failed',
      `${path} has changes of its own (${changed.trim().split('\n')[0] ?? ''})`,
      { hint: 'Keep or discard them; the agent does not overwrite them.' },
    )
}

const unpinned = (node: CustomNode, commit: string, name: string): Problem => ({
  code: 'unpinned_ref',
  severity: 'warning',
  subject: name,
  message: `${node.git}: ${node.ref} is ${commit} today and may be another one tomorrow`,
  hint: ERROR_CODES.unpinned_ref.hint,
})

type GitContext = NodeContext & { readonly cwd: string }

const git = async (args: readonly string[], context: GitContext): Promise<CommandResult> => {
  const result = await tryGit(args, context)
  if (result.exitCode === 0) return result
  const said = result.timedOut ? 'it took too long' : result.stderr.trim().split('\n').slice(-2).join(' ')
  throw new AgentError('custom_node_failed', `${context.name}: git ${args[0] ?? ''} failed: ${said}`)
}

/**
 * git with nothing of the machine's: no configuration, no hooks, no prompt, no protocol but http and https (which
 * address may use http was decided before).
 */
const tryGit = (args: readonly string[], context: GitContext): Promise<CommandResult> =>
  runCommand(
    [
      context.git,
      '-c',
      'protocol.allow=never',
      '-c',
      'protocol.https.allow=always',
      ...(context.allowHosts.length > 0 ? ['-c', 'protocol.http.allow=always'] : []),
      '-c',
      'core.hooksPath=/dev/null',
      '-c',
      'core.fsmonitor=false',
      '-c',
      'advice.detachedHead=false',
      ...args,
    ],
    {
      cwd: context.cwd,
      env: {
        ...cleanEnvironment(context.environment ?? process.env),
        GIT_TERMINAL_PROMPT: '0',
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_LFS_SKIP_SMUDGE: '1',
      },
      signal: context.signal,
      timeoutMs: FETCH_TIMEOUT_MS,
    },
  )
