import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import * as pty from 'node-pty'
import { afterAll, describe, expect, test, vi } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'
import type { ProviderServer } from '../support/providers/fake-providers.ts'
import { startProviders } from '../support/providers/fake-providers.ts'
import { makeHome, removeHome } from '../support/agent-process.ts'
import { AGENTCTL } from '../support/programs.ts'

/*
 * No machine ever answers here: each test makes `up` fail at another point, and then asks the provider's own books
 * what is left. Several run side by side, since each is a program that mostly waits.
 */
const MANIFEST = `version: 1
name: hello
instance: {provider: vast, image: example/comfy, gpu: ["RTX 4090"], max_price: 0.60}
`

type World = {
  readonly fake: ProviderServer
  readonly home: string
  readonly env: Readonly<Record<string, string>>
  readonly file: string
}

const worlds: World[] = []
const makeWorld = async (options: Parameters<typeof startProviders>[0] = {}): Promise<World> => {
  const home = makeHome()
  const fake = await startProviders({ intervals: false, ...options })
  const file = join(home, 'manifest.yaml')
  writeFileSync(file, MANIFEST)
  const env = { PATH: process.env['PATH'] ?? '', HOME: home, XDG_RUNTIME_DIR: home, ...fake.environment }
  const world = { fake, home, env, file }
  worlds.push(world)
  return world
}
afterAll(async () => {
  for (const terminal of terminals) terminal.kill('SIGKILL')
  for (const { fake, home } of worlds) {
    await fake.close()
    await removeHome(home)
  }
})

const up = ({ env, file }: World, ...args: string[]) => runAgentctl(['up', file, '--yes', ...args], { env })
const CTRL_C = '\u0003'

const terminals: pty.IPty[] = []
/** A person at a terminal. */
const sitDown = (args: readonly string[], env: Readonly<Record<string, string>>) => {
  const terminal = pty.spawn(process.execPath, [AGENTCTL, ...args], { env, cols: 200 })
  terminals.push(terminal)
  let shown = ''
  terminal.onData((text) => (shown += text))
  return {
    types: (text: string): void => terminal.write(text),
    reads: (text: string) =>
      vi.waitFor(() => expect(shown).toContain(text), { timeout: 30_000, interval: 20 }),
    left: new Promise<number>((resolve) => terminal.onExit(({ exitCode }) => resolve(exitCode))),
  }
}

const records = ({ home }: World): string[] => {
  const folder = join(home, '.config/gpu-agent/rentals')
  return readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'))
}

describe.concurrent('no stray after a failed up', () => {
  test('a machine that never comes up', async () => {
    const world = await makeWorld({ behaviour: { boot: 'never' } })
    const { code, stderr } = await up(world, '--boot-timeout', '1s')
    expect(stderr).toMatch(/error: vast instance 1000001 did not come up in 1 s: it is loading/)
    expect(code).toBe(EXIT.failed)
    expect(world.fake.ledger.existing()).toEqual([])
    expect(records(world)).toEqual([])
  })

  test('a container that cannot be started', async () => {
    const world = await makeWorld({ behaviour: { boot: 'fails', loadMs: 0 } })
    const { code, stderr } = await up(world)
    expect(stderr).toContain('does not come up: it is failed: Error response from daemon')
    expect(code).toBe(EXIT.failed)
    expect(world.fake.ledger.existing()).toEqual([])
  })

  test('a machine whose sshd never answers', async () => {
    const world = await makeWorld({ behaviour: { loadMs: 0 } })
    const { code, stderr } = await up(world, '--boot-timeout', '1s')
    expect(stderr).toMatch(/error: vast instance 1000001: ssh does not reach/)
    expect(code).toBe(EXIT.failed)
    expect(world.fake.ledger.existing()).toEqual([])
  })

  test('a creation that errors and leaves a contract', async () => {
    const world = await makeWorld()
    world.fake.fault({ on: 'create', does: { kind: 'done-but', status: 400 } })
    const { code, stderr } = await up(world)
    expect(code).toBe(EXIT.failed)
    expect(stderr).toContain('vast instance 1000001 is gone: read back')
    expect(world.fake.ledger.existing()).toEqual([])
  })

  test('a creation whose answer is lost', async () => {
    const world = await makeWorld()
    world.fake.fault({ on: 'create', does: { kind: 'drop' } })
    const { code } = await up(world)
    expect(code).toBe(EXIT.failed)
    expect(world.fake.calls.filter(({ kind }) => kind === 'create')).toHaveLength(1)
    expect(world.fake.ledger.existing()).toEqual([])
  })

  test('offers that others took: the next ones are tried, and then it is said', async () => {
    const world = await makeWorld({ offers: [1, 2].map((id) => ({ id })) })
    world.fake.fault({
      on: 'create',
      does: { kind: 'answer', status: 410, body: '{"error":"no_such_ask","msg":"gone"}' },
    })
    const { code, stderr } = await up(world)
    expect(stderr).toContain('error: the offers that fit were taken by others; 2 were tried')
    expect(code).toBe(EXIT.refused)
    expect(world.fake.ledger.existing()).toEqual([])
    expect(records(world)).toEqual([])
  })

  test('a destroy that fails at first is repeated until it is read back', async () => {
    const world = await makeWorld({ behaviour: { boot: 'fails', loadMs: 0 } })
    world.fake.fault({ on: 'destroy', times: 2, does: { kind: 'answer', status: 502 } })
    expect((await up(world)).code).toBe(EXIT.failed)
    expect(world.fake.ledger.existing()).toEqual([])
  })

  test('a destroy that is refused is loud, and what is left stays on record', async () => {
    const world = await makeWorld({ behaviour: { boot: 'fails', loadMs: 0 } })
    world.fake.fault({ on: 'list', does: { kind: 'answer', status: 401, body: '{"msg":"Invalid API key"}' } })
    const { code, stderr } = await up(world)
    expect(stderr).toMatch(/error: gpu-agent-hello-\w+ may go on costing money at vast/)
    expect(code).toBe(EXIT.failed)
    expect(records(world)).toHaveLength(1)
  })

  test('SIGINT with nobody to ask: destroyed', async () => {
    const world = await makeWorld({ behaviour: { boot: 'never' } })
    const running = startAgentctl(['up', world.file, '--yes'], { env: world.env })
    await running.printed('is loading')
    running.child.kill('SIGINT')
    const { code, stderr } = await running.ended
    expect(stderr).toContain('is gone: read back')
    expect(code).toBe(EXIT.interrupted)
    expect(world.fake.ledger.existing()).toEqual([])
  })

  test.each([
    ['Enter destroys it', '', []],
    ['k keeps it, and how to give it back is said', 'k', ['1000001']],
  ])('Ctrl-C on a terminal asks whether to destroy the box: %s', async (_name, answer, left) => {
    const world = await makeWorld({ behaviour: { boot: 'never' } })
    const person = sitDown(['up', world.file], world.env)
    await person.reads('Rent the first one? [y/N]')
    person.types('y\r')
    await person.reads('is loading')
    person.types(CTRL_C)
    await person.reads('is rented. Destroy it, or keep it? [D/k]')
    expect(world.fake.ledger.existing()).toEqual(['1000001'])
    person.types(`${answer}\r`)
    expect(await person.left).toBe(EXIT.interrupted)
    expect(world.fake.ledger.existing()).toEqual(left)
    // What is kept is on record, as nobody's work any more; what is destroyed is on none.
    expect(records(world).map((text) => (JSON.parse(text) as { pid: unknown }).pid)).toEqual(
      left.map(() => null),
    )
    await person.reads(left.length > 0 ? 'agentctl down 1000001 --destroy' : 'is gone: read back')
  })

  test('a second Ctrl-C at that question ends the program at once, and boxes shows the stray', async () => {
    const world = await makeWorld({ behaviour: { boot: 'never' } })
    const person = sitDown(['up', world.file, '--yes'], world.env)
    await person.reads('is loading')
    person.types(CTRL_C)
    await person.reads('[D/k]')
    person.types(CTRL_C)
    expect(await person.left).toBe(EXIT.interrupted)
    const listed = await runAgentctl(['boxes'], { env: world.env })
    expect(listed.stderr).toContain('warning: vast 1000001: a stray')
  })

  test('kill -9 in between: boxes shows the stray, and down ends it', async () => {
    const world = await makeWorld({ behaviour: { boot: 'never' } })
    const running = startAgentctl(['up', world.file, '--yes'], { env: world.env })
    await running.printed('is loading')
    running.child.kill('SIGKILL')
    await running.ended
    expect(world.fake.ledger.existing()).toEqual(['1000001'])
    const listed = await runAgentctl(['boxes'], { env: world.env })
    expect(listed.stderr).toContain(
      'warning: vast 1000001: a stray: the agentctl up that made it ended without it',
    )
    expect(listed.stderr).toContain('agentctl down 1000001 --destroy')
    const { code, stderr } = await runAgentctl(['down', '1000001', '--destroy'], { env: world.env })
    expect(code, stderr).toBe(EXIT.done)
    expect(world.fake.ledger.existing()).toEqual([])
    expect(records(world)).toEqual([])
  })

  test('kill -9 before the provider has answered: the label on record finds what was made', async () => {
    const world = await makeWorld({ behaviour: { boot: 'never' } })
    const running = startAgentctl(['up', world.file, '--yes'], { env: world.env })
    while (!running.stderr().includes('renting offer')) await delay(5)
    running.child.kill('SIGKILL')
    await running.ended
    const record = JSON.parse(records(world)[0] ?? '{}') as { label: string }
    // Whether the call had left already or not, the list tells what there is, and nothing else bills.
    const { stdout } = await runAgentctl(['boxes', '--json'], { env: world.env })
    const { boxes } = JSON.parse(stdout) as { boxes: { id: string; label: string; warning: string }[] }
    expect(boxes.map(({ id }) => id)).toEqual(world.fake.ledger.existing())
    for (const box of boxes)
      expect(box).toMatchObject({ label: record.label, warning: expect.stringContaining('stray') as string })
  })

  test('a stopped box of the manifest is started, and stopped again when it does not come up; --new rents another', async () => {
    const world = await makeWorld({ behaviour: { boot: 'never' }, offers: [{ id: 1 }, { id: 2 }] })
    await up(world, '--keep', '--boot-timeout', '1s')
    expect((await runAgentctl(['down', '1000001'], { env: world.env })).code).toBe(EXIT.done)

    const again = await up(world, '--boot-timeout', '1s')
    expect(again.stderr).toContain('starting vast instance 1000001')
    expect(again.stderr).toContain('vast instance 1000001 is stopped: read back')
    expect(again.stderr).toMatch(/error: .*did not come up in 1 s.*\ntry: .*--new/)
    expect(again.code).toBe(EXIT.failed)
    const kinds = world.fake.calls.map(({ kind }) => kind)
    expect(kinds.filter((kind) => kind === 'create' || kind === 'destroy')).toEqual(['create'])
    expect(world.fake.ledger.burning()).toEqual([])
    expect(world.fake.ledger.existing()).toEqual(['1000001'])

    const other = await up(world, '--new', '--boot-timeout', '1s')
    expect(other.stderr).toContain('rented vast instance 1000002')
    expect(world.fake.ledger.existing()).toEqual(['1000001'])
  })

  test('where a box of the manifest runs already, up says so before it rents another', async () => {
    const world = await makeWorld({ behaviour: { loadMs: 0 }, offers: [{ id: 1 }, { id: 2 }] })
    expect((await up(world, '--keep', '--boot-timeout', '1s')).stderr).not.toContain('runs already')
    const { stderr } = await up(world, '--boot-timeout', '1s')
    expect(stderr).toMatch(/vast instance 1000001 \(gpu-agent-\S+\) of this manifest runs already/)
    expect(stderr.indexOf('runs already')).toBeLessThan(stderr.indexOf('rented vast instance 1000002'))
    expect(world.fake.ledger.existing()).toEqual(['1000001'])
  })

  test('--keep: the box stays, and how to give it back is said', async () => {
    const world = await makeWorld({ behaviour: { boot: 'never' } })
    const { code, stderr } = await up(world, '--keep', '--boot-timeout', '1s')
    expect(code).toBe(EXIT.failed)
    expect(stderr).toContain('agentctl down 1000001 --destroy')
    expect(world.fake.ledger.existing()).toEqual(['1000001'])
  })
})

describe.concurrent('refused before anything is rented', () => {
  test.each([
    ['nobody to say yes', [], EXIT.usage, 'nobody is here to say yes to the price'],
    [
      'a price nobody offers',
      ['--yes', '--max-price', '0.1'],
      EXIT.refused,
      '1 cost more than $0.10 an hour',
    ],
    ['a GPU nobody has', ['--yes', '--gpu', 'H200'], EXIT.refused, 'nobody offers 1 × H200 now'],
    ['a provider nobody knows', ['--yes', '--provider', 'aws'], EXIT.usage, 'the provider aws'],
    [
      'a price that is none',
      ['--yes', '--max-price', 'cheap'],
      EXIT.usage,
      '--max-price: cheap is not a price',
    ],
  ])('%s', async (_name, args, exit, message) => {
    const world = await makeWorld()
    const { code, stderr } = await runAgentctl(['up', world.file, ...args], { env: world.env })
    expect(stderr).toContain(message)
    expect(code).toBe(exit)
    expect(world.fake.calls.filter(({ kind }) => kind === 'create')).toEqual([])
  })

  test('no key: its variable is named', async () => {
    const world = await makeWorld()
    const { code, stderr } = await runAgentctl(['up', world.file, '--yes'], {
      env: { ...world.env, VAST_API_KEY: '' },
    })
    expect(stderr).toContain('error: this machine has no API key for vast')
    expect(stderr).toContain('Set VAST_API_KEY')
    expect(code).toBe(EXIT.notAuthenticated)
  })
})
