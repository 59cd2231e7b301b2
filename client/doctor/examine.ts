import { execFile } from 'node:child_process'
import { access, constants, stat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { VERSION } from '../../shared/version.ts'
import type { Call, Environment } from '../command.ts'
import { connect } from '../connect.ts'
import { contextsFile, readContexts } from '../context/contexts.ts'
import type { Box } from '../context/resolve-box.ts'
import { resolveBox } from '../context/resolve-box.ts'
import { targetText } from '../context/target.ts'
import { asAgentError } from '../exit.ts'
import { sshEnvironment } from '../tunnel/ssh.ts'
import { versionNote } from '../version.ts'
import type { Finding } from './finding.ts'
import { outside } from './outside.ts'
import { sshKeys } from './ssh-keys.ts'

const OLDEST_NODE = 22

/** Every check, each with what to do where it fails. Never throws for what it finds. */
export const examine = async (call: Call): Promise<Finding[]> => {
  const { environment } = call
  const [here, there, ofTheBox] = await Promise.all([
    Promise.all([
      contextList(environment),
      contextsMode(environment),
      sshProgram(environment),
      sshKeys(environment),
    ]),
    outside(call),
    box(call),
  ])
  return [nodeVersion(), ...here, ...there, ...ofTheBox]
}

const nodeVersion = (): Finding => {
  const major = Number(process.versions.node.split('.')[0])
  return {
    check: 'node',
    detail: process.versions.node,
    fix: major >= OLDEST_NODE ? null : `Run agentctl with Node ${OLDEST_NODE} or newer.`,
  }
}

const contextList = async (environment: Environment): Promise<Finding> => {
  try {
    const { current, contexts } = await readContexts(environment)
    const names = Object.keys(contexts)
    return {
      check: 'contexts',
      detail: names.length === 0 ? 'none' : `${names.join(', ')}; current: ${current ?? 'none'}`,
      fix:
        current !== null && !Object.hasOwn(contexts, current)
          ? 'The current context is gone: agentctl context use NAME.'
          : null,
    }
  } catch (error) {
    const known = asAgentError(error)
    return { check: 'contexts', detail: known.message, fix: known.hint }
  }
}

/** The file holds tokens. */
const contextsMode = async (environment: Environment): Promise<Finding> => {
  const file = contextsFile(environment)
  const stats = await stat(file).catch(() => undefined)
  if (stats === undefined) return { check: 'config file', detail: `${file} is not there yet`, fix: null }
  const mode = stats.mode & 0o777
  return {
    check: 'config file',
    detail: `${file}, mode ${mode.toString(8)}`,
    // Windows has no mode; there the rights of the user's own folder count.
    fix:
      process.platform === 'win32' || (mode & 0o077) === 0
        ? null
        : `Others can read its tokens: chmod 600 ${file}`,
  }
}

const sshProgram = async (environment: Environment): Promise<Finding> => {
  for (const folder of (environment['PATH'] ?? '').split(delimiter)) {
    const path = join(folder, process.platform === 'win32' ? 'ssh.exe' : 'ssh')
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return sshVersion(path, environment)
  }
  return {
    check: 'ssh',
    detail: 'not found in PATH',
    fix: 'Install the OpenSSH client; boxes are reached through it.',
  }
}

/** The options that agentctl gives to ssh are known from this version on. */
const OLDEST_SSH = 7.6

const sshVersion = async (path: string, environment: Environment): Promise<Finding> => {
  const said = await new Promise<string>((resolve) => {
    // It prints its version on standard error; one that does not start says nothing.
    execFile(path, ['-V'], { env: sshEnvironment(environment) }, (_, stdout, stderr) =>
      resolve(`${stdout}${stderr}`.trim()),
    )
  })
  const version = Number(/^OpenSSH_(?:for_Windows_)?(\d+\.\d+)/.exec(said)?.[1])
  return {
    check: 'ssh',
    detail: `${path}, ${said === '' ? 'which does not start' : said}`,
    fix: version >= OLDEST_SSH ? null : `Install OpenSSH ${OLDEST_SSH} or newer.`,
  }
}

const box = async (call: Call): Promise<Finding[]> => {
  let agentVersion: string | undefined
  let chosen: Box | undefined
  try {
    chosen = await resolveBox(call.context, call.environment)
    const api = connect(chosen, {
      ...call,
      onAgentVersion: (version) => {
        agentVersion = version
      },
    })
    const { host } = await api.status()
    const note = agentVersion === undefined ? undefined : versionNote(agentVersion)
    return [
      {
        check: 'agent',
        detail: `${host.hostname} answers at ${targetText(chosen.target)}, chosen by ${chosen.chosenBy}`,
        fix: null,
      },
      {
        check: 'versions',
        detail: `agentctl ${VERSION}, agentd ${agentVersion ?? 'unknown'}`,
        fix: note ?? null,
      },
    ]
  } catch (error) {
    if (call.signal.aborted) throw error
    const known = asAgentError(error)
    // Its own hint may say “agentctl doctor”, which is where the user is.
    const isLocal = chosen?.target.kind === 'unix'
    const fix = isLocal && known.code === 'unreachable' ? UNREACHABLE_FIX : known.hint
    return [{ check: 'agent', detail: known.message, fix }]
  }
}

const UNREACHABLE_FIX =
  'Start agentd on the box; if it runs, name its socket: AGENTCTL_HOST=unix:/path/agent.sock, or AGENT_HOME=DIR.'
