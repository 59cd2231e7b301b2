import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { StatusRecord } from '../../shared/contract/records.ts'
import type { Image } from '../support/image.ts'
import { buildImage, noImage } from '../support/image.ts'
import type { Machine } from '../support/machine.ts'
import { machineIn } from '../support/machine.ts'

/* The Dockerfile, built and started as a provider would. The tests build on each other in order. */

describe.skipIf(noImage !== undefined)(`the image (${noImage ?? 'built with buildah'})`, () => {
  let image: Image
  let box: Machine
  let keys: string
  beforeAll(async () => {
    image = await buildImage()
    // Its sshd takes port 22 of every address it has.
    box = machineIn(image.folder, { network: 'own' })
    keys = mkdtempSync(join(tmpdir(), 'gpu-agent-keys-'))
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(keys, 'user')])
  }, 300_000)
  afterAll(async () => {
    await box.kill()
    await image.remove()
    rmSync(keys, { recursive: true })
  })

  test('it holds the release in the shape of an installation, rclone, and no host key', () => {
    const prefix = join(image.folder, 'opt/gpu-agent')
    const version = readlinkSync(join(prefix, 'current'))
    expect(readdirSync(prefix).sort()).toEqual([version, 'current', 'release'].sort())
    expect(readdirSync(join(image.folder, 'etc/ssh')).filter((name) => /key/.test(name))).toEqual([])
    const run = (...argv: string[]) => execFileSync('chroot', [image.folder, ...argv], { encoding: 'utf8' })
    expect(run('/usr/local/bin/agentd', '--version').trim()).toBe(version)
    expect(run('/usr/local/bin/rclone', 'version')).toMatch(/^rclone v1\./)
  })

  test('its entry point brings up the agent, and sshd for the key that was given', async () => {
    box.boot(image.entrypoint, { PUBLIC_KEY: readFileSync(join(keys, 'user.pub'), 'utf8').trim() })
    await expect
      .poll(async () => (await box.run('agentctl', 'status', '--json')).code, { timeout: 60_000 })
      .toBe(0)
    expect((await box.run('cat', '/proc/1/comm')).stdout).toBe('tini\n')

    copyFileSync(join(keys, 'user'), join(image.folder, 'tmp/user'))
    const ssh = ['ssh', '-i', '/tmp/user', '-o', 'BatchMode=yes', '-o', 'StrictHostKeyChecking=accept-new']
    const { code, stdout, stderr } = await box.run(...ssh, 'root@127.0.0.1', 'agentctl', 'status', '--json')
    expect(code, stderr).toBe(0)
    expect((JSON.parse(stdout) as StatusRecord).agent.home).toBe('/var/lib/gpu-agent')
  })

  test('what asks it to stop ends the agent in order, as docker stop does', async () => {
    expect(await box.stop()).toBe(0)
    expect(readdirSync(join(image.folder, 'run/gpu-agent'))).not.toContain('agent.sock')
  })
})
