import { describe, expect, test } from 'vitest'
import { destroyConfirmed, stopConfirmed } from '../../../shared/providers/confirm.ts'
import type { Rental } from '../../../shared/providers/provider.ts'
import { createVast } from '../../../shared/providers/vast.ts'
import type { FakeOptions } from '../../support/providers/fake-providers.ts'
import { createFakeProviders, FAKE_KEY } from '../../support/providers/fake-providers.ts'
import { createManualClock } from '../../support/providers/manual-clock.ts'

const { signal } = new AbortController()
const SECRET = 'hf_the-value-of-the-secret'

const world = (options: FakeOptions & { key?: string } = {}) => {
  const clock = createManualClock()
  const fake = createFakeProviders({ nowMs: () => clock.nowMs(), ...options })
  const deps = { send: fake.send, clock, endpoint: 'http://vast.test' }
  const vast = createVast({ ...deps, key: () => options.key ?? FAKE_KEY })
  const withKey = (key: string) => createVast({ ...deps, key: () => key })
  return { clock, fake, vast, withKey }
}

const wanted = { gpus: ['RTX 4090'], gpuCount: 1, diskBytes: 200e9, interruptible: false }

const rentalOf = async (vast: ReturnType<typeof createVast>): Promise<Rental> => {
  const [offer] = await vast.search(wanted, { signal })
  if (offer === undefined) throw new Error('no offer')
  return {
    offer,
    label: 'gpu-agent test 1a2b',
    image: 'vastai/comfy:latest',
    diskBytes: 200e9,
    env: { HF_TOKEN: SECRET },
    onStart: 'true',
    bidUsdPerHour: null,
  }
}

const made = async (vast: ReturnType<typeof createVast>): Promise<string> => {
  const created = await vast.create(await rentalOf(vast), { signal })
  if (created.state !== 'created') throw created.error
  return created.id
}

describe('renting at Vast.ai', () => {
  test('a machine goes from offer to running to stopped to gone, and the books agree', async () => {
    const { clock, fake, vast } = world()
    const id = await made(vast)
    expect(await vast.show(id, { signal })).toMatchObject({ state: 'loading', label: 'gpu-agent test 1a2b' })
    expect(fake.ledger.burning()).toEqual([])
    await clock.sleep(60_000)
    expect(await vast.show(id, { signal })).toMatchObject({
      state: 'running',
      gpu: 'RTX 4090',
      usdPerHour: 0.4,
      ssh: { host: '127.0.0.1', port: 9, user: 'root' },
    })
    expect(fake.ledger.burning()).toEqual([id])
    expect(await stopConfirmed(vast, { id }, { signal, clock, withinMs: 60_000 })).toMatchObject({
      state: 'stopped',
    })
    expect(fake.ledger.burning()).toEqual([])
    expect(fake.ledger.existing()).toEqual([id])
    // The disk is billed while it is stopped, and the row says so.
    expect((await vast.show(id, { signal })).usdPerHour).toBeCloseTo((200 * 0.2) / 730)
    expect(await destroyConfirmed(vast, { id }, { signal, clock, withinMs: 60_000 })).toMatchObject({
      state: 'gone',
    })
    expect(fake.ledger.existing()).toEqual([])
  })

  test('the environment is sent as an object, with an sshd of its own, and the disk in gigabytes', async () => {
    const { fake, vast } = world()
    await made(vast)
    expect(fake.calls.find(({ kind }) => kind === 'create')?.body).toMatchObject({
      env: { HF_TOKEN: SECRET },
      runtype: 'ssh_direct',
      disk: 200,
      label: 'gpu-agent test 1a2b',
    })
  })

  test('a price is bid for an interruptible machine, and none for another', async () => {
    const { fake, vast } = world()
    const rental = await rentalOf(vast)
    await vast.create({ ...rental, bidUsdPerHour: 0.22 }, { signal })
    expect(fake.calls.at(-1)?.body).toMatchObject({ price: 0.22 })
    expect(fake.machines.all()[0]?.usdPerHour).toBe(0.22)
  })

  test('no answer shows the environment that a machine was given', async () => {
    const { vast } = world()
    const id = await made(vast)
    expect(JSON.stringify([await vast.show(id, { signal }), await vast.list({ signal })])).not.toContain(
      SECRET,
    )
  })

  test('a creation that errors and still leaves a contract tells its id', async () => {
    const { fake, vast } = world()
    const rental = await rentalOf(vast)
    fake.fault({ on: 'create', does: { kind: 'done-but', status: 500 } })
    const created = await vast.create(rental, { signal })
    expect(created).toMatchObject({ state: 'failed', left: fake.ledger.existing()[0] })
    expect(fake.calls.filter(({ kind }) => kind === 'create')).toHaveLength(1)
  })

  test('a creation whose answer is lost is not sent again, and its label finds what it made', async () => {
    const { fake, vast } = world()
    const rental = await rentalOf(vast)
    fake.fault({ on: 'create', does: { kind: 'drop' } })
    await expect(vast.create(rental, { signal })).rejects.toMatchObject({ code: 'provider_failed' })
    expect(fake.calls.filter(({ kind }) => kind === 'create')).toHaveLength(1)
    const found = (await vast.list({ signal })).filter(({ label }) => label === rental.label)
    expect(found.map(({ id }) => id)).toEqual(fake.ledger.existing())
  })

  test('an offer that somebody else took is a failure with nothing left', async () => {
    const { vast } = world()
    const rental = await rentalOf(vast)
    expect(await vast.create(rental, { signal })).toMatchObject({ state: 'created' })
    expect(await vast.create(rental, { signal })).toMatchObject({
      state: 'failed',
      left: null,
      error: { message: 'vast: PUT /api/v0/asks/501/ answered 410: error 410/no_such_ask' },
    })
  })

  test('a message that repeats a secret is shown without it', async () => {
    const { fake, vast } = world()
    const rental = await rentalOf(vast)
    fake.fault({ on: 'create', does: { kind: 'answer', status: 400, body: `bad env ${SECRET} ${FAKE_KEY}` } })
    const created = await vast.create(rental, { signal })
    const message = created.state === 'failed' ? created.error.message : ''
    expect(message).toContain('bad env [secret]')
    expect(message).not.toContain(SECRET)
  })

  test('more environment than Vast.ai takes is refused before anything is rented', async () => {
    const { fake, vast } = world()
    const rental = await rentalOf(vast)
    const env = { BIG: 'x'.repeat(40_000) }
    await expect(vast.create({ ...rental, env }, { signal })).rejects.toMatchObject({ code: 'usage' })
    expect(fake.ledger.existing()).toEqual([])
  })
})

describe('what Vast.ai says', () => {
  test('calls keep its minimum intervals, so that none is refused', async () => {
    const { fake, vast } = world()
    const id = await made(vast)
    for (let times = 0; times < 5; times += 1) await vast.show(id, { signal })
    await Promise.all([vast.stop(id, { signal }), vast.start(id, { signal })])
    expect(fake.calls.filter(({ status }) => status === 429)).toEqual([])
  })

  test('its 429, plain text without Retry-After, is waited out', async () => {
    const { fake, vast } = world()
    const id = await made(vast)
    fake.fault({
      on: 'destroy',
      times: 2,
      does: { kind: 'answer', status: 429, body: 'API requests too frequent' },
    })
    await vast.destroy(id, { signal })
    expect(fake.ledger.existing()).toEqual([])
  })

  test('null after a destroy means gone; a page that is no answer of the API means nothing', async () => {
    const { fake, vast } = world()
    const id = await made(vast)
    await vast.destroy(id, { signal })
    expect(await vast.show(id, { signal })).toMatchObject({ state: 'gone' })
    fake.fault({ on: 'show', does: { kind: 'answer', status: 404, body: '<html>not found</html>' } })
    await expect(vast.show(id, { signal })).rejects.toMatchObject({ code: 'provider_failed' })
    fake.clearFaults()
    fake.fault({ on: 'show', does: { kind: 'garbage' } })
    await expect(vast.show(id, { signal })).rejects.toMatchObject({
      message: `vast: GET /api/v0/instances/${id}/?owner=me answered something that cannot be read`,
    })
  })

  test('a container that exited by itself is failed, not stopped: its contract bills on', async () => {
    const { clock, fake, vast } = world({ behaviour: { boot: 'fails' } })
    const id = await made(vast)
    await clock.sleep(5_000)
    expect(await vast.show(id, { signal })).toMatchObject({ state: 'failed' })
    expect(fake.ledger.burning()).toEqual([id])
  })

  test('a machine that was outbid is stopped', async () => {
    const { clock, fake, vast } = world()
    const id = await made(vast)
    await clock.sleep(5_000)
    for (const machine of fake.machines.all()) fake.machines.outbid(machine)
    expect(await vast.show(id, { signal })).toMatchObject({ state: 'stopped' })
  })

  test('a stop that was accepted and not carried out is stopping, for ever', async () => {
    const { clock, fake, vast } = world({ behaviour: { stopMs: 'ignored' } })
    const id = await made(vast)
    await clock.sleep(5_000)
    const reports: string[] = []
    await expect(
      stopConfirmed(
        vast,
        { id },
        { signal, clock, withinMs: 120_000, report: ({ why }) => reports.push(why) },
      ),
    ).rejects.toMatchObject({
      code: 'stop_unconfirmed',
      message: `vast instance ${id} is not stopped: it is stopping`,
    })
    expect(fake.ledger.burning()).toEqual([id])
    // It was asked for again and again, not once.
    expect(fake.calls.filter(({ kind }) => kind === 'stop').length).toBeGreaterThan(2)
    expect(reports.length).toBeGreaterThan(10)
  })

  test('T47: a stop is retried through 401, 500 and silence until it is read back', async () => {
    const { clock, fake, vast } = world()
    const id = await made(vast)
    await clock.sleep(5_000)
    fake.fault(
      { on: 'stop', times: 2, does: { kind: 'answer', status: 401, body: '{"msg":"Invalid API key"}' } },
      { on: 'stop', times: 7, does: { kind: 'answer', status: 500 } },
      { on: 'stop', times: 1, does: { kind: 'ignored' } },
      { on: 'show', times: 3, does: { kind: 'garbage' } },
    )
    expect(await stopConfirmed(vast, { id }, { signal, clock, withinMs: null })).toMatchObject({
      state: 'stopped',
    })
    expect(fake.ledger.burning()).toEqual([])
  })

  test('a list is read to its last page', async () => {
    const { vast } = world({
      offers: Array.from({ length: 60 }, (_, index) => ({ id: 600 + index })),
      intervals: false,
    })
    const rental = await rentalOf(vast)
    for (let index = 0; index < 60; index += 1)
      await vast.create({ ...rental, offer: { ...rental.offer, id: String(600 + index) } }, { signal })
    expect(await vast.list({ signal })).toHaveLength(60)
  })

  test('a refused key is named so', async () => {
    const { withKey } = world()
    await expect(withKey('wrong').list({ signal })).rejects.toMatchObject({
      code: 'provider_key',
      message: expect.stringContaining('Invalid API key') as string,
    })
    await expect(withKey('').list({ signal })).rejects.toMatchObject({
      message: 'there is no API key for vast',
    })
  })

  test('an instance’s own key may be refused reading and may still stop it; another’s may not', async () => {
    const { clock, vast, withKey } = world()
    const id = await made(vast)
    await clock.sleep(5_000)
    const own = withKey(`instance-key-${id}`)
    expect(await own.checkKey(id, { signal, write: true })).toEqual({ read: 'refused', write: 'accepted' })
    expect(await vast.show(id, { signal })).toMatchObject({ state: 'running' })
    expect(await withKey('instance-key-7').checkKey(id, { signal, write: true })).toEqual({
      read: 'refused',
      write: 'refused',
    })
    expect(await own.checkKey(id, { signal, write: false })).toEqual({ read: 'refused', write: 'untried' })
  })
})
