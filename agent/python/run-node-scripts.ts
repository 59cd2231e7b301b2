import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { CustomNode } from '../../shared/manifest/schema.ts'
import { runCommand } from '../platform/commands.ts'
import { atomicWrite, joinInside } from '../platform/files.ts'
import { newFindings } from './abi/abi-layout.ts'
import { checkAbi } from './abi/check-abi.ts'
import { cleanEnvironment } from './clean-environment.ts'
import type { PythonContext } from './context.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'
import { fingerprint } from './dist-record.ts'
import { layoutOf } from './environment-layout.ts'
import type { PythonFacts } from './inspect-python.ts'
import { canonicalName, inspectPython } from './inspect-python.ts'
import { takeInstallLock } from './install-lock.ts'
import { inTransaction } from './install-transaction.ts'
import type { OverlayPaths } from './overlay.ts'
import { overlayPaths, pythonUse } from './overlay.ts'
import { readPipSettings } from './pip.ts'
import type { PythonPlan } from './plan-python.ts'
import { proveImports } from './prove-imports.ts'
import { INSTALL_MARK } from './stray-installs.ts'
import { refuseBaseDrift } from './verify-install.ts'

/** Nodes fetch models in their scripts; what takes longer hangs. */
const SCRIPT_TIMEOUT_MS = 30 * 60_000
const PROOF_TIMEOUT_MS = 10 * 60_000

/**
 * Runs the `install.py` of every custom node that has one, once for each commit, as ComfyUI’s own manager would: with
 * the overlay’s Python, in the node’s folder. What it installs goes into the overlay and is held by the constraints;
 * what it breaks is taken back. A script that fails is a problem of its node, and the others go on.
 */
export const runNodeScripts = async (
  nodes: readonly CustomNode[],
  context: PythonContext & {
    readonly plan: PythonPlan
    /** The folder the nodes lie in. */
    readonly nodesFolder: string
  },
): Promise<readonly Problem[]> => {
  const paths = overlayPaths(context.plan.root, context.plan.base.version)
  const problems: Problem[] = []
  for (const node of nodes) {
    const name = nodeFolderName(node.git)
    const folder = joinInside(context.nodesFolder, name)
    const commit = commitOf(folder)
    if (!existsSync(join(folder, 'install.py')) || readRecord(paths.env)[name] === commit) continue
    try {
      await runScript({ name, folder, commit }, { ...context, paths })
    } catch (error) {
      context.signal.throwIfAborted()
      const { message, hint } = problemFrom(error, name)
      const failure = new AgentError('custom_node_failed', `install.py of ${name}: ${message}`, { hint })
      problems.push(problemFrom(failure, name, node.optional ? 'warning' : 'error'))
    }
  }
  return problems
}

type NodeScript = { readonly name: string; readonly folder: string; readonly commit: string }

const runScript = async (
  script: NodeScript,
  context: PythonContext & { readonly plan: PythonPlan; readonly paths: OverlayPaths },
): Promise<void> => {
  const { plan, paths } = context
  const { base } = plan
  const unlock = takeInstallLock(paths.lock)
  try {
    const before = await inspectPython(paths.python, context)
    const abiOf = async (top: PythonFacts) =>
      checkAbi(await layoutOf({ base, top, environment: context.environment }), context)
    const abiBefore = await abiOf(before)
    const files = await fingerprint(base.dists)
    const changes = [{ name: script.name, from: null, to: 'install.py' }]
    await inTransaction(paths, {
      ...context,
      plan: { digest: plan.digest, changes },
      work: async () => {
        await execute(script, context)
        const after = await inspectPython(paths.python, context)
        refuseMoved(plan.constraints, after)
        const broken = newFindings(await abiOf(after), abiBefore).filter(({ kind }) => kind !== 'python')
        if (broken[0] !== undefined)
          throw new AgentError(
            'install_abi_conflict',
            `${broken[0].file} would not load: it lacks ${broken[0].what}`,
          )
        await proveImports(
          { required: plan.imports, native: [], base },
          {
            ...context,
            python: paths.python,
            variables: pythonUse(paths).environment,
            timeoutMs: PROOF_TIMEOUT_MS,
          },
        )
        refuseBaseDrift(files, await fingerprint(base.dists))
        atomicWrite(
          recordPath(paths.env),
          JSON.stringify({ ...readRecord(paths.env), [script.name]: script.commit }),
        )
      },
    })
  } finally {
    unlock()
  }
}

const execute = async ({ folder }: NodeScript, context: PythonContext & { readonly plan: PythonPlan }) => {
  const { plan } = context
  const clean = cleanEnvironment(context.environment)
  const result = await runCommand([plan.interpreter, '-X', 'utf8', 'install.py'], {
    cwd: folder,
    env: {
      ...clean,
      ...(await readPipSettings(plan.base.prefix, context)).environment,
      ...plan.environment,
      PATH: `${plan.binFolder}:${clean['PATH'] ?? ''}`,
      // The image’s files are compared after, and Python would compile them beside.
      PYTHONDONTWRITEBYTECODE: '1',
      [INSTALL_MARK]: plan.root,
    },
    signal: context.signal,
    timeoutMs: SCRIPT_TIMEOUT_MS,
  })
  if (result.exitCode === 0) return
  const said = result.stderr.trim().split('\n').slice(-3).join(' ')
  const how = result.timedOut ? 'it did not end' : `it ended with ${result.exitCode ?? result.signal ?? ''}`
  throw new AgentError('install_failed', `${how}: ${said || 'it said nothing'}`)
}

/** A script may go around pip’s constraints; it may not keep what it got so. */
const refuseMoved = (constraints: readonly string[], after: PythonFacts): void => {
  for (const line of constraints) {
    const [name = '', version] = line.split('===')
    const dist = after.dists.find((one) => canonicalName(one.name) === name)
    if (version !== undefined && dist !== undefined && dist.version !== version)
      throw new AgentError(
        'install_blocked',
        `${name} ${version} became ${dist.version}; ${name} is protected`,
      )
  }
}

/** It lies in the overlay, so that taking an install back runs the script again. */
const recordPath = (env: string): string => join(env, 'gpu-agent-nodes.json')

const readRecord = (env: string): Readonly<Record<string, string>> => {
  try {
    return JSON.parse(readFileSync(recordPath(env), 'utf8')) as Record<string, string>
  } catch {
    // None was run, or the record is damaged: a script may be run again.
    return {}
  }
}

/** A clone of the agent has no branch: its HEAD is the commit. */
const commitOf = (folder: string): string => {
  try {
    return readFileSync(join(folder, '.git', 'HEAD'), 'utf8').trim()
  } catch {
    return ''
  }
}
