import { expect, test } from 'vitest'
import type { SshTarget } from '../../client/context/target.ts'
import { configFolder } from '../../client/private-file.ts'
import { makePlaces, tunnelPlaces } from '../../client/tunnel/places.ts'

const BOX: SshTarget = {
  kind: 'ssh',
  user: undefined,
  host: 'box',
  port: undefined,
  socket: '/run/agent.sock',
}

/* What can be known of Windows without one. */

test('ssh is refused before anything is made, with what to do instead', async () => {
  const places = tunnelPlaces(BOX, { HOME: '/nowhere' })
  await expect(makePlaces(places, 'win32')).rejects.toMatchObject({
    code: 'unreachable',
    hint: 'Run agentctl in WSL, or reach the box over TLS: docs/connect.md.',
  })
})

test('the config lies in the folder of the user, where no HOME is set', () => {
  expect(configFolder({ USERPROFILE: '/Users/me' })).toBe('/Users/me/.config/gpu-agent')
})
