import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { makeHome, removeHome } from '../support/agent-process.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { GOOD_TOKEN } from '../support/hub/hub-model.ts'
import { startHub } from '../support/hub/hub.ts'
import type { Hub } from '../support/hub/hub.ts'
import type { ProviderServer } from '../support/providers/fake-providers.ts'
import { startProviders } from '../support/providers/fake-providers.ts'

/*
 * A1: the launcher did not pass the Hugging Face token into the instance, and every gated model failed with
 * “Authorization failed” on a box that was paid for.
 */
describe('A1: renting with gated models', () => {
  let hub: Hub
  let fake: ProviderServer
  let home: string
  let file: string
  beforeAll(async () => {
    home = makeHome()
    hub = await startHub({
      files: [
        { repo: 'studio/video', path: 'high.safetensors', sizeBytes: 1e6, seed: 'high', gated: true },
        { repo: 'studio/video', path: 'low.safetensors', sizeBytes: 1e6, seed: 'low', gated: true },
      ],
    })
    // The machine never comes up: what matters here is what it was given.
    fake = await startProviders({ intervals: false, behaviour: { boot: 'never' } })
    file = join(home, 'manifest.yaml')
    writeFileSync(
      file,
      `version: 1
name: gated
secrets: {required: [HF_TOKEN], optional: [CIVITAI_TOKEN]}
instance: {provider: vast, image: example/comfy}
models_root: /workspace/models
downloads:
  - {to: high.safetensors, from: ["hf://studio/video@main/high.safetensors"]}
  - {to: low.safetensors, from: ["hf://studio/video@main/low.safetensors"]}
`,
    )
  })
  afterAll(async () => {
    await hub.close()
    await fake.close()
    await removeHome(home)
  })
  const up = (secrets: Record<string, string>) =>
    runAgentctl(['up', file, '--yes', '--boot-timeout', '1s'], {
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: home,
        XDG_RUNTIME_DIR: home,
        HF_ENDPOINT: hub.url,
        CIVITAI_ENDPOINT: hub.civitaiUrl,
        AGENT_ALLOW_HOSTS: hub.allowHosts.join(','),
        ...fake.environment,
        ...secrets,
      },
    })
  const created = () => fake.calls.filter(({ kind }) => kind === 'create')

  test.each([
    ['missing', {}, 'HF_TOKEN'],
    ['empty', { HF_TOKEN: '' }, 'HF_TOKEN'],
    [
      'one that the hub refuses',
      { HF_TOKEN: 'hf_expired_long_ago_000000' },
      'does not accept the token HF_TOKEN',
    ],
  ])(
    'a token that is %s: refused before renting, with the files that need it',
    async (_name, secrets, said) => {
      const { code, stderr } = await up(secrets)
      expect(stderr).toContain(said)
      for (const name of ['high.safetensors', 'low.safetensors']) expect(stderr).toContain(name)
      expect(stderr).toContain('nothing was rented')
      expect(stderr).not.toContain('hf_expired_long_ago')
      expect(code).toBe(EXIT.refused)
      expect(fake.calls).toEqual([])
    },
  )

  test('a token that is good goes into the machine, with every other declared secret that is there', async () => {
    const { stderr } = await up({ HF_TOKEN: GOOD_TOKEN, CIVITAI_TOKEN: 'civitai-value-1234', OTHER: 'no' })
    expect(created().map(({ body }) => body)).toMatchObject([
      { env: { HF_TOKEN: GOOD_TOKEN, CIVITAI_TOKEN: 'civitai-value-1234' } },
    ])
    expect(JSON.stringify(created())).not.toContain('OTHER')
    expect(stderr).not.toContain(GOOD_TOKEN)
    expect(fake.ledger.existing()).toEqual([])
  })
})
