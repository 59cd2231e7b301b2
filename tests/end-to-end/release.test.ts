import { execFileSync, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { makeHome, removeHome, runProgram } from '../support/agent-process.ts'
import type { SshServer } from '../support/ssh-server.ts'
import { noSshServer, startSshServer } from '../support/ssh-server.ts'

/* The release as it is sent to a box: made once, then used as a user would, where there is no other Node. */

const root = join(import.meta.dirname, '..', '..')
const CLIENT = join(root, 'dist/agentctl.js')

let folder: string
let archive: string
let release: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gr-'))
  execFileSync(process.execPath, [
    join(root, 'scripts/package.ts'),
    ...['--built', '--level', '1', '--out', folder],
  ])
  archive = join(folder, readdirSync(folder).find((name) => name.endsWith('.tar.gz')) ?? '')
  execFileSync('tar', ['-xzf', archive, '-C', folder])
  release = archive.replace(/\.tar\.gz$/, '')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('agentctl for a laptop', () => {
  const single = () => join(folder, readdirSync(folder).find((name) => name.endsWith('.mjs')) ?? '')

  test('the one file needs nothing beside it, and is what its .sha256 says', async () => {
    execFileSync('sha256sum', ['-c', `${single()}.sha256`], { cwd: folder })
    const alone = join(mkdtempSync(join(folder, 'alone-')), 'agentctl.mjs')
    cpSync(single(), alone)
    const { stdout } = await runProgram([process.execPath, alone, 'version'])
    expect(stdout).toMatch(/^agentctl \d+\.\d+\.\d+\n/)
    expect((await runProgram([process.execPath, alone, 'help', 'apply'])).stdout).toContain('manifest')
  })

  const old = oldNode()
  test.skipIf(old === undefined)(
    `an older Node is told what to do, in two lines (${old ?? 'no Node older than 22 is here'})`,
    async () => {
      const alone = join(mkdtempSync(join(folder, 'alone-')), 'agentctl.mjs')
      cpSync(single(), alone)
      const { code, stderr } = await runProgram([old ?? '', alone, 'status'])
      expect(code).toBe(EXIT.failed)
      expect(stderr).toMatch(/^error: agentctl needs Node 22 or newer, and this is [\d.]+\ntry: .+\n$/)
      // In a checkout, and where npm installed it, there is a newer one beside it.
      expect((await runProgram([old ?? '', CLIENT, 'help'])).stdout).toContain('agentctl')
    },
  )

  test('the package holds the programs, and neither maps nor releases', async () => {
    const { stdout } = await runProgram(['npm', 'pack', '--ignore-scripts', '--dry-run', '--json'], {
      cwd: root,
    })
    const [packed] = JSON.parse(stdout) as [{ files: { path: string }[] }]
    const paths = packed.files.map(({ path }) => path)
    expect(paths).toEqual(
      expect.arrayContaining(['dist/agentd.js', 'dist/agentctl.js', 'dist/shim.cjs', 'LICENSE']),
    )
    expect(paths.filter((path) => /\.(map|mjs|gz|sha256)$/.test(path))).toEqual([])
  })
})

/** A PATH with the system's programs but no Node: those of the release bring their own. */
const pathWithoutNode = (): string => {
  const bin = join(folder, 'no-node')
  if (!existsSync(bin)) {
    mkdirSync(bin)
    for (const name of [
      'sh',
      'readlink',
      'dirname',
      'ssh',
      'cat',
      'sed',
      'id',
      'mkdir',
      'chmod',
      'mv',
      'ln',
      'grep',
    ])
      writeFileSync(join(bin, name), `#!/bin/sh\nexec ${which(name)} "$@"\n`, { mode: 0o755 })
  }
  return bin
}
const which = (name: string): string =>
  execFileSync('/bin/sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim()

const startInstalled = async (agentd: string, home: string): Promise<ChildProcess> => {
  const child = spawn(agentd, ['--home', home], {
    env: { PATH: pathWithoutNode(), HOME: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  while (!log.includes('agentd is ready')) {
    if (child.exitCode !== null) throw new Error(`agentd did not start:\n${log}`)
    await delay(50)
  }
  return child
}

const stop = async (child: ChildProcess): Promise<void> => {
  const exited = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await exited
}

test('the archive is what its .sha256 says', () => {
  const checked = execFileSync('sha256sum', ['-c', `${archive}.sha256`], { cwd: folder, encoding: 'utf8' })
  expect(checked).toContain('OK')
})

test('agentd and agentctl run with the Node of the release, also through links', async () => {
  const home = makeHome()
  const env = { PATH: pathWithoutNode(), AGENT_HOME: home }
  const agentd = join(folder, 'linked-agentd')
  execFileSync('ln', ['-s', join(release, 'bin/agentd'), agentd])
  const agent = await startInstalled(agentd, home)
  try {
    const { code, stdout, stderr } = await runProgram([join(release, 'bin/agentctl'), 'status'], { env })
    expect({ code, stderr }).toEqual({ code: EXIT.done, stderr: '' })
    expect(stdout).toContain(home)
    // A terminal needs the native module that the shim loads.
    const manifest = join(home, 'm.yaml')
    writeFileSync(
      manifest,
      'version: 1\nname: m\nprocesses: {hello: {kind: command, command: [/bin/echo, from the shim]}}\n',
    )
    expect((await runProgram([join(release, 'bin/agentctl'), 'apply', manifest], { env })).code).toBe(
      EXIT.done,
    )
    const logs = await runProgram([join(release, 'bin/agentctl'), 'logs', 'hello'], { env })
    expect(logs.stdout).toContain('from the shim')
  } finally {
    await stop(agent)
    await removeHome(home)
  }
})

describe('what starts the agent at boot', () => {
  const install = (dest: string, ...args: string[]) =>
    runProgram([join(release, 'systemd/install.sh'), ...args], { env: { DESTDIR: dest } })

  test.each([
    { how: 'systemd', file: 'etc/systemd/system/agentd.service' },
    { how: 'supervisord', file: 'etc/supervisor/conf.d/agentd.conf' },
    { how: 'onstart', file: 'root/onstart.sh' },
  ])('$how: files with the paths of this installation, and again changes nothing', async ({ how, file }) => {
    const dest = mkdtempSync(join(folder, 'dest-'))
    const dry = await install(dest, '--how', how, '--dry-run')
    expect(dry).toMatchObject({ code: 0, stderr: '' })
    expect(dry.stdout).toContain(`would write: ${dest}/${file}`)
    expect(readdirSync(dest)).toEqual([])

    if (how === 'onstart') {
      mkdirSync(join(dest, 'root'))
      writeFileSync(join(dest, file), '#!/bin/bash\nmine\n')
    }
    expect(await install(dest, '--how', how)).toMatchObject({ code: 0, stderr: '' })
    const text = readFileSync(join(dest, file), 'utf8')
    expect(text).toContain(release)
    expect(text).not.toContain('/opt/gpu-agent')
    if (how === 'onstart') expect(text).toContain('mine\n')
    expect(readlinkSync(join(dest, 'usr/local/bin/agentd'))).toBe(join(release, 'bin/agentd'))
    const again = await install(dest, '--how', how)
    expect(again.stdout).toContain('is right already')
    expect(readFileSync(join(dest, file), 'utf8')).toBe(text)
  })

  const noAnalyze = spawnable('systemd-analyze') ? undefined : 'systemd-analyze is not installed'
  test.skipIf(noAnalyze !== undefined)(
    `systemd takes the unit (${noAnalyze ?? 'systemd-analyze'})`,
    async () => {
      const dest = mkdtempSync(join(folder, 'dest-'))
      await install(dest, '--how', 'systemd')
      const unit = join(dest, 'etc/systemd/system/agentd.service')
      const { code, stderr } = await runProgram(['systemd-analyze', 'verify', '--man=no', unit])
      expect(stderr.split('\n').filter((line) => line.includes('agentd.service'))).toEqual([])
      expect(code).toBe(0)
    },
  )

  test.skipIf(noAnalyze !== undefined)(
    `systemd reads every line that hardens the unit (${noAnalyze ?? 'systemd-analyze'})`,
    async () => {
      const unit = join(root, 'systemd/agentd.service')
      const asked = ['--offline=true', '--json=short', '--no-pager', unit]
      const { stdout, stderr } = await runProgram(['systemd-analyze', 'security', ...asked])
      const seen = JSON.parse(stdout) as { json_field: string; set: boolean | null }[]
      const hardening = [
        ...['NoNewPrivileges', 'ProtectKernelTunables', 'ProtectKernelLogs', 'ProtectControlGroups'],
        ...['ProtectHostname', 'RestrictRealtime', 'LockPersonality'],
      ]
      for (const name of hardening)
        expect(seen, stderr).toContainEqual(expect.objectContaining({ json_field: name, set: true }))
    },
  )

  test('onstart.sh starts the agent again when it crashes, and not when it was asked to stop', async () => {
    const home = makeHome()
    const env = { AGENT_HOME: home, AGENT_LOG: join(home, 'log'), HOME: home }
    const onstart = join(release, 'systemd/onstart.sh')
    const pid = async (): Promise<number> => {
      for (;;) {
        const { code, stdout } = await runProgram([join(release, 'bin/agentctl'), 'status', '--json'], {
          env,
        })
        if (code === 0) return (JSON.parse(stdout) as { agent: { pid: number } }).agent.pid
        await delay(100)
      }
    }
    try {
      const loop = runProgram([onstart, '--loop'], { env })
      const first = await pid()
      expect((await runProgram([onstart, '--loop'], { env })).code).toBe(EXIT.busy)
      process.kill(first, 'SIGKILL')
      const second = await pid()
      expect(second).not.toBe(first)
      process.kill(second, 'SIGTERM')
      const { code, stdout } = await loop
      expect(code).toBe(0)
      expect(stdout.match(/starting it again/g)).toHaveLength(1)

      // Whoever ends the loop ends the agent in order, as docker stop does.
      const child = spawn(onstart, ['--loop'], {
        env: { PATH: process.env['PATH'], ...env },
        stdio: 'ignore',
      })
      const ended = new Promise((resolve) => child.once('exit', resolve))
      const third = await pid()
      child.kill('SIGTERM')
      expect(await ended).toBe(0)
      expect(existsSync(`/proc/${third}`)).toBe(false)

      // As the container's own script calls it: in the background, with a log.
      expect(await runProgram([onstart], { env })).toMatchObject({ code: 0, stdout: '', stderr: '' })
      process.kill(await pid(), 'SIGTERM')
      expect(readFileSync(join(home, 'log'), 'utf8')).toContain('agentd is ready')
    } finally {
      await removeHome(home)
    }
  })
})

describe.skipIf(noSshServer !== undefined)(`install over ssh (${noSshServer ?? 'real sshd'})`, () => {
  let home: string
  let server: SshServer
  beforeAll(async () => {
    home = makeHome()
    server = await startSshServer({ env: { AGENT_HOME: home } })
  })
  afterAll(async () => {
    await server.close()
    await removeHome(home)
  })
  const agentctl = (...args: string[]) => runProgram([process.execPath, CLIENT, ...args], { env: server.env })

  test('the release goes to the box once, and the second time it is only paired with', async () => {
    const prefix = join(server.folder, 'opt')
    const install = () =>
      agentctl(
        'install',
        server.target,
        '--prefix',
        prefix,
        '--release',
        archive,
        '--no-service',
        '--name',
        'box',
      )
    const first = await install()
    expect(first, first.stderr).toMatchObject({ code: 0 })
    expect(first.stdout).toContain('no agent runs there yet')
    const version = readlinkSync(join(prefix, 'current'))
    expect(readdirSync(prefix).sort()).toEqual([version, 'current'].sort())

    const agent = await startInstalled(join(prefix, 'current/bin/agentd'), home)
    try {
      const second = await install()
      expect(second, second.stderr).toMatchObject({ code: 0 })
      expect(second.stderr).toContain('this release is there already')
      expect(second.stdout).toContain('paired with')
      expect((await agentctl('status')).stdout).toContain(home)
    } finally {
      await stop(agent)
    }
  })

  test('an archive that is damaged on the way leaves nothing behind', async () => {
    const prefix = join(server.folder, 'damaged')
    const broken = join(server.folder, 'broken.tar.gz')
    writeFileSync(broken, 'no archive')
    const { code, stderr } = await agentctl('install', server.target, '--prefix', prefix, '--release', broken)
    expect(code).toBe(EXIT.failed)
    expect(stderr).toMatch(/^error: /m)
    expect(readdirSync(prefix)).toEqual([])
  })

  test('a prefix that a shell would read as more is refused', async () => {
    const asked = ['install', server.target, '--prefix', '/opt/$(touch x)', '--release', archive]
    expect((await agentctl(...asked)).code).toBe(EXIT.usage)
  })
})

/** A Node of the system that is older than the client wants. */
function oldNode(): string | undefined {
  return ['/usr/bin/node', '/usr/local/bin/node'].find((path) => {
    if (!existsSync(path)) return false
    return Number.parseInt(execFileSync(path, ['--version'], { encoding: 'utf8' }).slice(1), 10) < 22
  })
}

function spawnable(program: string): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    // Not installed.
    return false
  }
}
