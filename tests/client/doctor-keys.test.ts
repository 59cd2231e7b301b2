import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runAgentctl } from '../support/agentctl.ts'

test('doctor finds an ssh key that ssh would refuse, and says how to close it', async () => {
  const home = mkdtempSync(join(tmpdir(), 'doctor-'))
  try {
    mkdirSync(join(home, '.ssh'))
    const key = join(home, '.ssh', 'id_ed25519')
    writeFileSync(key, 'a key')
    chmodSync(key, 0o644)
    const keys = async () => {
      const { stdout } = await runAgentctl(['doctor', '--json'], { env: { HOME: home } })
      const { checks } = JSON.parse(stdout) as { checks: { check: string; fix: string | null }[] }
      return checks.find(({ check }) => check === 'ssh keys')
    }
    expect((await keys())?.fix).toContain(`chmod 600 ${key}`)
    chmodSync(key, 0o600)
    expect(await keys()).toMatchObject({ detail: key, fix: null })
  } finally {
    rmSync(home, { recursive: true })
  }
})
