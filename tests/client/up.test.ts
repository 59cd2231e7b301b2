import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import type { RentedBox } from '../support/rented-box.ts'
import { noRentedBox, startRentedBox } from '../support/rented-box.ts'

const SECRET = 'the-value-of-the-secret'

const MANIFEST = `version: 1
name: hello
secrets: {required: [MY_KEY], optional: [HF_TOKEN, NOT_THERE]}
instance: {provider: vast, image: "example/comfy:cuda12.8", gpu: ["RTX 4090"], disk: 100GB, max_price: 0.60}
processes:
  hello: {kind: command, command: [sleep, "1000"]}
`

const OFFERS = [
  { id: 501, dph_total: 0.5 },
  { id: 502, dph_total: 0.4 },
  { id: 503, dph_total: 0.3, cuda_max_good: 12.2 },
  { id: 504, dph_total: 0.9 },
]

describe.skipIf(noRentedBox !== undefined)(`agentctl up (${noRentedBox ?? 'a real sshd as the box'})`, () => {
  let box: RentedBox
  beforeAll(async () => {
    box = await startRentedBox({ offers: OFFERS })
  }, 60_000)
  afterAll(() => box.close())

  const up = (...args: string[]) =>
    box.agentctl(['up', box.manifest(MANIFEST), '--yes', ...args], { MY_KEY: SECRET, HF_TOKEN: 'hf_other' })
  const rentals = () => {
    const folder = join(box.server.env['XDG_CONFIG_HOME'] ?? '', 'gpu-agent', 'rentals')
    return readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'))
  }

  test('a manifest becomes a box that is ready: offer, machine, ssh, agent, run, status', async () => {
    const { code, stdout, stderr } = await up()
    expect(stderr).toContain('rented vast instance')
    expect(code, stderr).toBe(EXIT.done)
    // The cheapest that fits: 503 does not run the CUDA that the image is built for, 504 is too dear.
    expect(box.fake.calls.find(({ kind }) => kind === 'create')?.path).toBe('/api/v0/asks/502/')
    const [machine] = box.fake.machines.all()
    expect(machine).toMatchObject({ env: { MY_KEY: SECRET, HF_TOKEN: 'hf_other' }, diskGb: 100 })
    expect(machine?.env['NOT_THERE']).toBeUndefined()
    expect(machine?.label).toMatch(/^gpu-agent-hello-[0-9a-f]{6}$/)
    for (const step of ['is running', 'waiting for ssh', 'waiting for the agent', 'paired with', 'has begun'])
      expect(stderr).toContain(step)
    expect(stdout).toMatch(/hello +command +running|hello +command +ready/)
    expect(`${stdout}${stderr}${rentals().join('')}`).not.toContain(SECRET)
    expect(`${stdout}${stderr}${rentals().join('')}`).not.toContain(box.fake.environment['VAST_API_KEY'])
  }, 60_000)
})
