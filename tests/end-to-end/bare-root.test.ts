import { createHash } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { StatusRecord } from '../../shared/contract/records.ts'
import type { BareRoot } from '../support/bare-root.ts'
import { noBareRoot, unpackBareRoot } from '../support/bare-root.ts'
import type { DemoWorld } from '../support/demo-world.ts'
import { startDemoWorld } from '../support/demo-world.ts'

/* The release on a bare Debian: unpacked, started at boot, upgraded. The tests build on each other in order. */

const PREFIX = '/opt/gpu-agent'

describe.skipIf(noBareRoot !== undefined)(`a bare machine (${noBareRoot ?? 'debootstrap root'})`, () => {
  let folder: string
  let archive: string
  let world: DemoWorld
  let box: BareRoot
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'gpu-agent-bare-'))
    execFileSync(process.execPath, [
      join(import.meta.dirname, '../../scripts/package.ts'),
      ...['--built', '--level', '1', '--out', folder],
    ])
    archive = join(folder, readdirSync(folder).find((name) => name.endsWith('.tar.gz')) ?? '')
    box = unpackBareRoot()
    const home = join(box.folder, 'work')
    mkdirSync(home)
    world = await startDemoWorld(home)
    // The image's own Python, and a manifest that is applied at each boot.
    execFileSync('chroot', [box.folder, 'python3', '-m', 'venv', '/venv'])
    const manifest = readFileSync(world.manifestPath, 'utf8')
      .replaceAll('${DEMO_HOME}', '/work')
      .replaceAll('${DEMO_PYTHON}', '/venv/bin/python')
    writeFileSync(join(box.folder, 'etc/gpu-agent/manifest.yaml'), manifest)
  })
  afterAll(async () => {
    await box.remove()
    await world.close()
    rmSync(folder, { recursive: true })
  })

  /** What the provider does at each start: its variables go to the first process, then its on-start script. */
  const boot = (onStart: string, env: Readonly<Record<string, string>> = {}): void => {
    const known = { ...world.environment, PIP_FIND_LINKS: '/work/wheels', ...env }
    box.boot(['sh', '-c', `${onStart}; while :; do sleep 1; done`], known)
  }
  const status = async (): Promise<StatusRecord | undefined> => {
    const { code, stdout } = await box.run('agentctl', 'status', '--json')
    return code === 0 ? (JSON.parse(stdout) as StatusRecord) : undefined
  }
  const isReady = async (): Promise<StatusRecord> => {
    await expect
      .poll(async () => (await status())?.run?.state, { timeout: 120_000, interval: 500 })
      .toBe('ready')
    return (await status()) as StatusRecord
  }
  const agentLog = (): string => readFileSync(join(box.folder, 'var/log/agentd.log'), 'utf8')

  test('incident A8: from power-on to ready from the tarball, with no command but the installation', async () => {
    mkdirSync(join(box.folder, PREFIX))
    execFileSync('tar', ['-xzf', archive, '-C', join(box.folder, PREFIX)])
    // As the image’s author would: the release beside the manifest, and what the provider calls at each start.
    const release = `${PREFIX}/${basename(archive, '.tar.gz')}`
    boot(`${release}/systemd/install.sh --how onstart`)
    const ready = await isReady()
    expect(ready).toMatchObject({ healthy: true, processes: [{ name: 'trainer', state: 'ready' }] })
    for (const [path, sha256] of Object.entries(world.hashes))
      expect(
        createHash('sha256')
          .update(readFileSync(join(box.folder, 'work', path)))
          .digest('hex'),
      ).toBe(sha256)
    expect((await box.run('agentctl', 'status', '--check')).code).toBe(0)
  })

  test('after a power cut it comes back to ready by itself and fetches nothing again', async () => {
    const before = world.hub.requests.length
    await box.kill()
    boot('/root/onstart.sh')
    expect(await isReady()).toMatchObject({ healthy: true })
    const bytes = world.hub.requests.slice(before).filter((request) => request.at !== 'hub')
    expect(bytes).toEqual([])
  })

  test('a stock image gets the release by an address and a hash, and nothing but that release', async () => {
    await box.kill()
    rmSync(join(box.folder, PREFIX), { recursive: true })
    rmSync(join(box.folder, 'root/onstart.sh'))
    const url = await serve(archive)
    copyFileSync(join(import.meta.dirname, '../../systemd/from-url.sh'), join(box.folder, 'root/from-url.sh'))
    expect(readFileSync(join(box.folder, 'root/from-url.sh')).byteLength).toBeLessThan(4096)

    const wrong = { AGENT_RELEASE_URL: url, AGENT_RELEASE_SHA256: '0'.repeat(64) }
    boot('/root/from-url.sh', wrong)
    await expect
      .poll(agentLog, { timeout: 60_000 })
      .toContain('the release is not the one of AGENT_RELEASE_SHA256')
    await expect.poll(() => readdirSync(join(box.folder, PREFIX))).toEqual([])
    await box.kill()

    boot('/root/from-url.sh', { AGENT_RELEASE_URL: url, AGENT_RELEASE_SHA256: sha256Of(archive) })
    // The links of an installation are not there, since only the provider's own start script was used.
    const agentctl = `${PREFIX}/current/bin/agentctl`
    await expect
      .poll(async () => (await box.run(agentctl, 'status', '--check')).code, {
        timeout: 120_000,
        interval: 500,
      })
      .toBe(0)
  })

  test('an upgrade leaves processes alone, and is switched to in one step', async () => {
    const before = await through('status')
    const old = readlinkSync(join(box.folder, PREFIX, 'current'))
    const name = placeRelease('0.1.1-next', () => undefined)
    const { code, stdout, stderr } = await box.run(`${PREFIX}/${name}/systemd/switch.sh`, '--how', 'onstart')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain(`${name} answers`)
    expect(readlinkSync(join(box.folder, PREFIX, 'current'))).toBe(name)
    expect(readlinkSync(join(box.folder, PREFIX, 'previous'))).toBe(old)
    const after = await isReady()
    expect(after.agent).toMatchObject({ id: before.agent.id, version: '0.1.1-next' })
    expect(after.agent.pid).not.toBe(before.agent.pid)
    expect(after.processes[0]).toMatchObject({ pid: before.processes[0]?.pid, state: 'ready' })
  })

  test('an upgrade that does not answer is taken back, with the state that it had changed', async () => {
    const before = await through('status')
    const current = readlinkSync(join(box.folder, PREFIX, 'current'))
    const broken = placeRelease('0.2.0', (release) => {
      // It brings the state to a form of its own, and then never listens.
      writeFileSync(
        join(release, 'lib/migrations/999-next.sql'),
        'CREATE TABLE of_the_next_version (x INTEGER) STRICT;\n',
      )
      const program = join(release, 'lib/agentd.js')
      const text = readFileSync(program, 'utf8')
      writeFileSync(program, text.replaceAll('.listen(', '.listenNever?.('))
    })
    const { code, stderr } = await box.run(
      ...['env', 'AGENT_SWITCH_SECONDS=6', `${PREFIX}/${broken}/systemd/switch.sh`, '--how', 'onstart'],
    )
    expect(code).toBe(1)
    expect(stderr).toContain(`error: the agent of ${broken} does not answer after 6 s; ${current} runs again`)
    expect(readlinkSync(join(box.folder, PREFIX, 'current'))).toBe(current)
    const after = await isReady()
    expect(after.agent).toMatchObject({ id: before.agent.id, version: '0.1.1-next' })
    expect(after.processes[0]).toMatchObject({ pid: before.processes[0]?.pid })
    expect(readdirSync(join(box.folder, 'var/lib/gpu-agent'))).toContain(`state.db.of-${broken}`)
    const events = await box.run(`${PREFIX}/current/bin/agentctl`, 'events')
    expect(events.stdout).toContain('run.state')
  })

  const through = async (command: 'status'): Promise<StatusRecord> =>
    JSON.parse((await box.run(`${PREFIX}/current/bin/agentctl`, command, '--json')).stdout) as StatusRecord

  /** A further release on the box, as `agentctl install` puts it there: this one under another version, changed. */
  const placeRelease = (version: string, change: (release: string) => void): string => {
    const prefix = join(box.folder, PREFIX)
    const from = join(prefix, readlinkSync(join(prefix, 'current')))
    const name = `${version}-01234567`
    cpSync(from, join(prefix, name), { recursive: true })
    writeFileSync(join(prefix, name, 'VERSION'), `${version}\n`)
    writeFileSync(join(prefix, name, '.sha256'), `${version}\n`)
    for (const file of readdirSync(join(prefix, name, 'lib')).filter((one) => /^agent.*\.js$/.test(one))) {
      const path = join(prefix, name, 'lib', file)
      writeFileSync(path, readFileSync(path, 'utf8').replaceAll(/"0\.1\.[01](?:-next)?"/g, `"${version}"`))
    }
    change(join(prefix, name))
    return name
  }
})

const sha256Of = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')

const serve = async (file: string): Promise<string> => {
  const server = createServer((_, response) => response.end(readFileSync(file)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/${basename(file)}`
}
