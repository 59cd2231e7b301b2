import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { findUv } from '../../../agent/python/uv.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython, TORCH_BASE } from '../../support/wheels/python-world.ts'
import { testUv } from '../../support/wheels/real-wheels.ts'
import { makeSourceArchive } from '../../support/wheels/source-archive.ts'

const uv = testUv()
const lacking = systemPython().missing ?? uv.missing
const folder = uv.missing === undefined ? uv.folder : ''

/* The rows are those of plan-python.test.ts, where pip answers them: uv has to say the same. */
describe.skipIf(lacking !== undefined)(`a plan where uv is installed (${lacking ?? 'with uv'})`, () => {
  let world: PythonWorld
  let base: string
  let said: string[]
  beforeAll(() => {
    world = makePythonWorld([...TORCH_BASE, 'shelf==1.0'])
    base = world.digest()
  })
  afterAll(() => world.close())
  afterEach(() => expect(world.digest()).toBe(base))

  const plan = (python: Record<string, unknown>, uvFolder = folder, environment = {}) => {
    said = []
    return world.plan(python, {
      environment: {
        ...world.context.environment,
        PATH: `${uvFolder}:${process.env['PATH'] ?? ''}`,
        ...environment,
      },
      log: { ...world.context.log, warn: (message) => said.push(message) },
    })
  }
  const specs = (...all: string[]) => ({ install: all.map((spec) => ({ spec })) })

  test.each([
    ['what is missing and nothing else (case 1)', 'nodea', ['einops 0.8.0', 'nodea 1.0']],
    ['nothing for a torch that satisfies (case 4)', 'noded', ['noded 1.0']],
    ['an older dependency that keeps torch (case 5)', 'nodef', ['facelib 2.0', 'nodef 1.0']],
    ['nothing for an xformers of the image', 'nodee', ['nodee 1.0']],
    ['an upgrade of what is not protected (case 36)', 'shelf>=2', ['shelf 2.0']],
  ])('brings %s, and starts no pip', async (_, spec, changes) => {
    const { dists, problems } = await plan(specs(spec))
    expect(problems).toEqual([])
    expect(dists.map(({ name, version }) => `${name} ${version}`).sort()).toEqual(changes)
    // Only uv leaves the requirements open.
    expect(dists.map(({ requires }) => requires)).toEqual(changes.map(() => null))
    expect(dists.every(({ sha256 }) => /^[0-9a-f]{64}$/.test(sha256 ?? ''))).toBe(true)
    expect(said).toEqual([])
  })

  test('installs without dependencies where the manifest says so', async () => {
    const { changes } = await plan({ install: [{ spec: 'nodeb', no_deps: true }] })
    expect(changes.map(({ name }) => name)).toEqual(['nodeb'])
  })

  test('refuses a newer torch in the same words (case 2, incident B1)', async () => {
    const { problems } = await plan(specs('nodeb'))
    expect(problems).toMatchObject([{ code: 'install_blocked', subject: 'torch' }])
    expect(problems[0]?.message).toContain(
      'torch 2.9.1+cu128 → 2.10.0+cu130 because nodeb 1.0 requires torch>=2.10 (python.install nodeb)',
    )
  })

  test('leaves it to pip to say why a wheel does not fit, and runs no source (cases 10, 12)', async () => {
    const marker = join(world.folder, 'was-run')
    const setup = `open(${JSON.stringify(marker)}, 'w')`
    makeSourceArchive({ name: 'evil', version: '1.0', setup }, world.index)
    const { problems } = await plan(specs('evil', 'onlycp310'))
    expect(problems).toMatchObject([{ code: 'install_needs_build' }, { code: 'install_unresolvable' }])
    expect(problems[1]?.message).toMatch(/cp310-cp310-linux_x86_64.*compatible/)
    expect(existsSync(marker)).toBe(false)
  })

  test('is the same with hostile settings of uv (case 33)', async () => {
    writeFileSync(join(world.folder, 'uv.toml'), 'no-index = true\n[pip]\nno-deps = true\n')
    const { changes, problems } = await plan(specs('nodea'), folder, {
      UV_CONFIG_FILE: join(world.folder, 'uv.toml'),
      UV_INDEX_URL: 'https://evil.example',
      UV_CONSTRAINT: '/nonexistent',
      UV_RESOLUTION: 'lowest',
    })
    expect([changes.length, problems]).toEqual([2, []])
  })

  test('is made by pip, with a word in the log, where uv does not work', async () => {
    const broken = join(world.folder, 'broken')
    mkdirSync(broken, { recursive: true })
    writeFileSync(join(broken, 'uv'), '#!/bin/sh\necho "error: unexpected argument" >&2\nexit 2\n')
    chmodSync(join(broken, 'uv'), 0o755)
    expect((await plan(specs('nodea'), broken)).changes).toHaveLength(2)
    expect(said).toEqual(['uv cannot plan this, pip does'])
  })

  test('is made by pip where the machine has settings that uv lacks', () => {
    const found = (environment: Record<string, string>) =>
      findUv(world.interpreter, { settings: { environment, constraints: [] }, environment: { PATH: folder } })
    expect(found({ PIP_INDEX_URL: 'https://index.example/simple' })?.environment).toEqual({
      UV_DEFAULT_INDEX: 'https://index.example/simple',
    })
    expect(found({ PIP_NO_INDEX: '1', PIP_FIND_LINKS: `${world.index} /nonexistent` })).toMatchObject({
      args: ['--no-index'],
      environment: { UV_FIND_LINKS: world.index },
    })
    expect(found({ PIP_PROXY: 'http://proxy.example:3128' })).toBeUndefined()
  })
})
