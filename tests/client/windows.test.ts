import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { SshTarget } from '../../client/context/target.ts'
import { configFolder } from '../../client/private-file.ts'
import { isBridged } from '../../client/tunnel/is-bridged.ts'
import { makePlaces, tunnelPlaces } from '../../client/tunnel/places.ts'
import { sshEnvironment } from '../../client/tunnel/ssh.ts'

const BOX: SshTarget = {
  kind: 'ssh',
  user: undefined,
  host: 'box',
  port: undefined,
  socket: '/run/agent.sock',
}

/* What can be known of Windows without one. */

test('its ssh forwards nothing, so each connection is an ssh of its own, there and where it is asked for', () => {
  expect(isBridged(BOX, {}, 'win32')).toBe(true)
  expect(isBridged(BOX, {}, 'linux')).toBe(false)
  expect(isBridged(BOX, { AGENTCTL_SSH: 'bridge' }, 'linux')).toBe(true)
  expect(isBridged({ ...BOX, isBridged: true }, {}, 'darwin')).toBe(true)
})

test('the files of a connection lie in the folder of the user, whose mode is not looked at', async () => {
  const user = mkdtempSync(join(tmpdir(), 'gw-'))
  onTestFinished(() => rmSync(user, { recursive: true }))
  const places = tunnelPlaces(BOX, { USERPROFILE: user }, 'win32')
  expect(places.folder).toBe(join(user, '.config/gpu-agent/run'))
  await makePlaces({ ...places, folder: tmpdir() }, 'win32')
  await makePlaces(places, 'win32')
  expect(statSync(places.folder).isDirectory()).toBe(true)
})

test('ssh gets what every program of Windows needs, in whatever case, and no token', () => {
  const environment = {
    Path: 'C:\\bin',
    SystemRoot: 'C:\\Windows',
    UserProfile: 'C:\\me',
    AGENTCTL_TOKEN: 'a.b',
  }
  expect(sshEnvironment(environment, 'win32')).toEqual({
    Path: 'C:\\bin',
    SystemRoot: 'C:\\Windows',
    UserProfile: 'C:\\me',
  })
  expect(sshEnvironment(environment, 'linux')).toEqual({})
})

test('the config lies in the folder of the user, where no HOME is set', () => {
  expect(configFolder({ USERPROFILE: '/Users/me' })).toBe('/Users/me/.config/gpu-agent')
})
