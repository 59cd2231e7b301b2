import { describe, expect, test } from 'vitest'
import { destroyConfirmed, stopConfirmed } from '../../../shared/providers/confirm.ts'
import { endpointOf, findOwnInstance } from '../../../shared/providers/places.ts'
import type { Rental } from '../../../shared/providers/provider.ts'
import { createRunpod } from '../../../shared/providers/runpod.ts'
import type { FakeOptions } from '../../support/providers/fake-providers.ts'
import { createFakeProviders, FAKE_KEY } from '../../support/providers/fake-providers.ts'
import { createManualClock } from '../../support/providers/manual-clock.ts'

const { signal } = new AbortController()

const world = (options: FakeOptions = {}) => {
  const clock = createManualClock()
  const fake = createFakeProviders({
    nowMs: () => clock.nowMs(),
    behaviour: { loadMs: 3_000 },
    ...options,
  })
  const deps = { send: fake.send, clock, endpoint: 'http://runpod.test' }
  return { clock, fake, runpod: createRunpod({ ...deps, key: () => FAKE_KEY }) }
}

const made = async (runpod: ReturnType<typeof createRunpod>): Promise<string> => {
  const [offer] = await runpod.search(
    { gpus: ['RTX 4090'], gpuCount: 1, diskBytes: 200e9, interruptible: false },
    { signal },
  )
  if (offer === undefined) throw new Error('no offer')
  const rental: Rental = {
    offer,
    label: 'gpu-agent test 1a2b',
    image: 'runpod/pytorch',
    diskBytes: 200e9,
    env: { HF_TOKEN: 'hf_value' },
    onStart: '',
    bidUsdPerHour: null,
  }
  const created = await runpod.create(rental, { signal })
  if (created.state !== 'created') throw created.error
  return created.id
}

describe('renting at RunPod', () => {
  test('a pod goes from the catalogue to running to stopped to gone, and the books agree', async () => {
    const { clock, fake, runpod } = world()
    const id = await made(runpod)
    expect(fake.calls.find(({ kind }) => kind === 'create')).toMatchObject({
      path: '/v2/pods',
      body: {
        gpu: { id: 'NVIDIA GeForce RTX 4090', count: 1 },
        mounts: { persistent: { size: 200, path: '/workspace' } },
        env: { HF_TOKEN: 'hf_value' },
        ports: ['22/tcp'],
        startSsh: true,
      },
    })
    expect(await runpod.show(id, { signal })).toMatchObject({ state: 'loading', ssh: null })
    await clock.sleep(5_000)
    expect(await runpod.show(id, { signal })).toMatchObject({ state: 'running', usdPerHour: 0.44 })
    await stopConfirmed(runpod, { id }, { signal, clock, withinMs: 60_000 })
    expect(fake.ledger.burning()).toEqual([])
    expect((await runpod.show(id, { signal })).usdPerHour).toBeCloseTo((200 * 0.2) / 730)
    await destroyConfirmed(runpod, { id }, { signal, clock, withinMs: 60_000 })
    expect(fake.ledger.existing()).toEqual([])
    expect(await runpod.list({ signal })).toEqual([])
  })

  test('a stop that it refuses with 409 is decided by what is read back', async () => {
    const { clock, fake, runpod } = world()
    const id = await made(runpod)
    await clock.sleep(5_000)
    await stopConfirmed(runpod, { id }, { signal, clock, withinMs: 60_000 })
    // Stopping what is stopped is a 409 there, and no failure here.
    await runpod.stop(id, { signal })
    expect(fake.calls.at(-1)).toMatchObject({ kind: 'stop', status: 409 })
  })

  test('its key is proven by a write that changes nothing', async () => {
    const { clock, fake, runpod } = world()
    const id = await made(runpod)
    await clock.sleep(5_000)
    expect(await runpod.checkKey(id, { signal, write: true })).toEqual({
      read: 'accepted',
      write: 'accepted',
    })
    expect(fake.ledger.burning()).toEqual([id])
    fake.fault({ on: 'start', does: { kind: 'answer', status: 403, body: '{"detail":"no access"}' } })
    expect(await runpod.checkKey(id, { signal, write: true })).toEqual({ read: 'accepted', write: 'refused' })
  })

  test('what is out of stock is not offered', async () => {
    const { runpod } = world({
      gpus: [
        { id: 'NVIDIA GeForce RTX 4090', name: 'RTX 4090', availability: 'NONE' },
        { id: 'NVIDIA L40S', name: 'L40S', memory: 48, usdPerHour: 0.86 },
      ],
    })
    const offers = await runpod.search(
      { gpus: [], gpuCount: 2, diskBytes: 0, interruptible: false },
      { signal },
    )
    expect(offers).toMatchObject([{ gpu: 'L40S', gpuCount: 2, usdPerHour: 1.72, vramBytes: 48e9 }])
  })

  test('interruptible pods are refused, not rented at the full price', async () => {
    const { runpod } = world()
    await expect(
      runpod.search({ gpus: [], gpuCount: 1, diskBytes: 0, interruptible: true }, { signal }),
    ).rejects.toMatchObject({ code: 'not_supported' })
  })
})

describe('where providers are', () => {
  test.each([
    ['https://console.vast.ai', {}],
    ['http://127.0.0.1:8899', { VAST_ENDPOINT: 'http://127.0.0.1:8899/' }],
    ['http://127.0.0.1:8899', { VAST_ENDPOINT: 'http://127.0.0.1:8899/api/v0/' }],
  ])('%s is made of %j', (expected, environment) => {
    expect(endpointOf('vast', environment)).toBe(expected)
  })

  test('a box finds itself by what its provider set in it', async () => {
    const { clock, fake, runpod } = world()
    const id = await made(runpod)
    await clock.sleep(5_000)
    const set: Record<string, string> = {
      RUNPOD_POD_ID: id,
      RUNPOD_API_KEY: FAKE_KEY,
      RUNPOD_ENDPOINT: 'http://runpod.test',
    }
    const own = findOwnInstance((name) => set[name], { send: fake.send, clock })
    expect(own).toMatchObject({ id, control: { name: 'runpod' } })
    expect(await own?.control.show(id, { signal })).toMatchObject({ state: 'running' })
    expect(findOwnInstance(() => undefined, { send: fake.send, clock })).toBeUndefined()
  })
})
