import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { runAgentctl } from '../support/agentctl.ts'
import { GOOD_TOKEN } from '../support/hub/hub-model.ts'
import { startHub } from '../support/hub/hub.ts'
import type { Hub } from '../support/hub/hub.ts'
import { startProviders } from '../support/providers/fake-providers.ts'
import type { ProviderServer } from '../support/providers/fake-providers.ts'

/** Nobody listens there. */
const NOWHERE = 'http://127.0.0.1:9'

let home: string
let hub: Hub
let fake: ProviderServer
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'doctor-'))
  hub = await startHub({ files: [] })
  fake = await startProviders({ intervals: false })
})
afterAll(async () => {
  await Promise.all([hub.close(), fake.close()])
  rmSync(home, { recursive: true })
})

/** What doctor says of each thing, on a laptop whose hubs and providers are well but for what is changed. */
const doctor = async (change: Readonly<Record<string, string>> = {}) => {
  const env = {
    HOME: home,
    HF_ENDPOINT: hub.url,
    CIVITAI_ENDPOINT: hub.civitaiUrl,
    ...fake.environment,
    ...change,
  }
  const { stdout } = await runAgentctl(['doctor', '--json'], { env })
  const { checks } = JSON.parse(stdout) as { checks: { check: string; detail: string; fix: string | null }[] }
  return (name: string) => checks.find(({ check }) => check === name)
}

test('doctor finds an ssh key that ssh would refuse, and says how to close it', async () => {
  mkdirSync(join(home, '.ssh'))
  const key = join(home, '.ssh', 'id_ed25519')
  writeFileSync(key, 'a key')
  chmodSync(key, 0o644)
  expect((await doctor())('ssh keys')?.fix).toContain(`chmod 600 ${key}`)
  chmodSync(key, 0o600)
  expect((await doctor())('ssh keys')).toMatchObject({ detail: key, fix: null })
})

test('doctor asks the hubs and the providers, each with what is set here for it', async () => {
  const well = await doctor({ HF_TOKEN: GOOD_TOKEN })
  expect(well('Hugging Face')).toMatchObject({ detail: `${hub.url} answers and takes the token`, fix: null })
  expect(well('Civitai')).toMatchObject({ detail: `${hub.civitaiUrl} answers`, fix: null })
  expect(well('vast')?.detail).toMatch(/takes the key; 0 rented$/)
  expect(well('vast')?.fix).toBeNull()
  expect(well('clock')).toMatchObject({ fix: null })

  const ill = await doctor({
    HUGGINGFACE_HUB_TOKEN: 'hf_notATokenOfAnybody',
    CIVITAI_ENDPOINT: NOWHERE,
    VAST_API_KEY: 'another key',
    RUNPOD_API_KEY: '',
  })
  expect(ill('Hugging Face')?.fix).toContain('Make a new token')
  expect(ill('Civitai')?.detail).toContain('ECONNREFUSED')
  expect(ill('Civitai')?.fix).toContain('CIVITAI_ENDPOINT')
  expect(ill('vast')?.fix).toContain('VAST_API_KEY')
  expect(ill('runpod')).toMatchObject({ detail: expect.stringContaining('no key here') as string, fix: null })
  expect(JSON.stringify([ill('Hugging Face'), ill('vast')])).not.toMatch(/hf_notAToken|another key/)
})

test('doctor tells a clock that is off by what the hubs say the time is', async () => {
  const late = createServer((_, response) => {
    response.setHeader('date', new Date(Date.now() - 20 * 60_000).toUTCString())
    response.end('{}')
  })
  await new Promise<void>((resolve) => late.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void late.close())
  const url = `http://127.0.0.1:${(late.address() as AddressInfo).port}`
  const clock = (await doctor({ HF_ENDPOINT: url, CIVITAI_ENDPOINT: url }))('clock')
  expect(clock?.detail).toMatch(/^20 min.* ahead of the hubs’$/)
  expect(clock?.fix).toContain('set-ntp')
  const unknown = (await doctor({ HF_ENDPOINT: NOWHERE, CIVITAI_ENDPOINT: NOWHERE }))('clock')
  expect(unknown).toMatchObject({ detail: 'not known: no hub told the time', fix: null })
})
