import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { access, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { AgentError } from '../shared/contract/errors.ts'
import { VERSION } from '../shared/version.ts'

/** A release of the agent as one compressed archive on this machine. */
export type Release = {
  readonly archive: string
  readonly sha256: string
  /** Removes what was made for this. */
  discard(): Promise<void>
}

/**
 * The release that `install` sends: the archive that was named, the one that `npm run package` made, or this very
 * installation, packed.
 * @throws AgentError usage, program_missing, io_error
 */
export const openRelease = async (named: string | undefined, signal: AbortSignal): Promise<Release> => {
  const program = import.meta.dirname
  const dist = program.endsWith('client') ? join(dirname(program), 'dist') : program
  const made = join(dist, `gpu-agent-${VERSION}-linux-x64.tar.gz`)
  const archive = named ?? ((await exists(made)) ? made : undefined)
  if (archive !== undefined) {
    if (!(await exists(archive))) throw new AgentError('usage', `there is no release ${archive}`)
    return { archive, sha256: await hash(archive), discard: () => Promise.resolve() }
  }
  const root = dirname(program)
  if (process.platform === 'linux' && process.arch === 'x64' && (await exists(join(root, 'node/bin/node'))))
    return packOwn(root, signal)
  throw new AgentError('program_missing', 'there is no release of the agent here that could be sent', {
    hint: 'Make one with npm run package, or name it: agentctl install TARGET --release FILE.tar.gz.',
  })
}

const packOwn = async (root: string, signal: AbortSignal): Promise<Release> => {
  const folder = await mkdtemp(join(tmpdir(), 'gpu-agent-release-'))
  const archive = join(folder, 'release.tar.gz')
  const discard = () => rm(folder, { recursive: true, force: true })
  try {
    await new Promise<void>((resolve, reject) => {
      const tar = spawn('tar', ['-czf', archive, '-C', dirname(root), basename(root)], {
        env: { PATH: process.env['PATH'] ?? '' },
        stdio: 'ignore',
        signal,
      })
      tar.once('error', reject)
      tar.once('close', (code) => {
        if (code === 0) resolve()
        else
          reject(
            new AgentError('io_error', `tar could not pack ${root}: it ended with ${code ?? 'a signal'}`),
          )
      })
    })
    return { archive, sha256: await hash(archive), discard }
  } catch (error) {
    await discard()
    signal.throwIfAborted()
    throw error
  }
}

const hash = async (path: string): Promise<string> => {
  const digest = createHash('sha256')
  for await (const chunk of createReadStream(path)) digest.update(chunk as Buffer)
  return digest.digest('hex')
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
