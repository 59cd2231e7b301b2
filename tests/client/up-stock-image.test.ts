import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { runProgram } from '../support/agent-process.ts'
import type { RentedBox } from '../support/rented-box.ts'
import { noRentedBox, startRentedBox } from '../support/rented-box.ts'
import { AGENTD } from '../support/programs.ts'

const skip = noRentedBox !== undefined || process.arch !== 'x64'

describe.skipIf(skip)(`up on an image without the agent (${noRentedBox ?? 'a real sshd'})`, () => {
  let box: RentedBox
  beforeAll(async () => {
    box = await startRentedBox({ image: 'stock' })
  })
  afterAll(() => box.close())

  /** A release in its form, whose agent is this checkout's; it starts the agent without touching this machine's boot. */
  const makeRelease = async (): Promise<string> => {
    const folder = join(box.server.folder, 'release')
    const put = (path: string, text: string): void => {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), `#!/bin/sh\n${text}\n`)
      chmodSync(join(folder, path), 0o755)
    }
    put('bin/agentd', `exec ${process.execPath} ${AGENTD} "$@"`)
    put(
      'systemd/switch.sh',
      [
        'release=$(dirname "$(dirname "$(readlink -f "$0")")")',
        'ln -sfn "$release" "$(dirname "$release")/current"',
        'setsid "$release/bin/agentd" --home "$AGENT_HOME" >/dev/null 2>&1 </dev/null &',
      ].join('\n'),
    )
    const archive = join(box.server.folder, 'release.tar.gz')
    const packed = await runProgram(['tar', '-czf', archive, '-C', box.server.folder, 'release'])
    expect(packed.code).toBe(0)
    return archive
  }

  test('the agent is installed over ssh, and the box becomes ready', async () => {
    const manifest = box.manifest(
      'version: 1\nname: stock\ninstance: {provider: runpod, image: runpod/pytorch, gpu: ["RTX 4090"]}\n',
    )
    const prefix = join(box.server.folder, 'opt')
    const release = await makeRelease()
    const { code, stdout, stderr } = await box.agentctl([
      ...['up', manifest, '--yes', '--prefix', prefix, '--release', release],
    ])
    expect(stderr).toContain(`putting the agent into ${prefix}`)
    expect(code, stderr).toBe(EXIT.done)
    expect(stdout).toContain(box.home)
    expect(existsSync(join(prefix, 'current', 'bin', 'agentd'))).toBe(true)
    expect(box.fake.machines.all()).toMatchObject([{ provider: 'runpod', state: 'running' }])
    const ended = await box.agentctl(['down', '--destroy'])
    expect(ended.code, ended.stderr).toBe(EXIT.done)
    expect(box.fake.ledger.existing()).toEqual([])
  }, 90_000)
})
