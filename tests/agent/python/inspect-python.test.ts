import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { inspectPython } from '../../../agent/python/inspect-python.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()
const signal = new AbortController().signal

describe.skipIf(missing !== undefined)(`a Python that is looked at (${missing ?? 'with python3'})`, () => {
  let world: PythonWorld
  beforeAll(() => {
    world = makePythonWorld(['einops'])
  })
  afterAll(() => world.close())

  test('says what it is and what it holds, and is not changed by that', async () => {
    const digest = world.digest()
    const facts = await inspectPython(world.interpreter, { signal })
    expect(facts).toMatchObject({
      interpreter: world.interpreter,
      prefix: join(world.folder, 'base'),
      hasVenv: true,
      hasPip: true,
    })
    expect(facts.version).toMatch(/^3\.\d+\.\d+/)
    expect(facts.basePrefix).not.toBe(facts.prefix)
    expect(facts.pipVersion).toMatch(/^\d+\./)
    expect(facts.dists.find((dist) => dist.name === 'einops')).toMatchObject({
      version: '0.8.0',
      location: facts.purelib,
    })
    expect(facts.markers['sys_platform']).toBe('linux')
    expect(world.digest()).toBe(digest)
  })

  test('is not misled by the agent’s environment', async () => {
    writeFileSync(join(world.folder, 'json.py'), 'raise SystemExit("hijacked")')
    const facts = await inspectPython(world.interpreter, {
      signal,
      environment: { PATH: process.env['PATH'], PYTHONPATH: world.folder, PYTHONHOME: world.folder },
    })
    expect(facts.interpreter).toBe(world.interpreter)
  })
})

describe('what is no usable Python', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'inspect-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  /** A program that answers as such a Python would. */
  const program = (name: string, script: string, mode = 0o755): string => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(folder, name), mode)
    return join(folder, name)
  }
  const answer = (facts: object): string => `cat > /dev/null; echo '${JSON.stringify(facts)}'`

  test.each([
    ['a path where nothing is', () => join(folder, 'nothing'), /ENOENT/],
    ['a file that may not be run', () => program('plain', 'exit 0', 0o644), /EACCES/],
    [
      'a program that is no Python',
      () => program('other', 'echo "unknown option -I" >&2; exit 2'),
      /unknown option -I/,
    ],
    ['a program that says nothing', () => program('silent', 'cat > /dev/null'), /not a working Python/],
    [
      'Python 3.8',
      () => program('old', answer({ version: '3.8.10', tooOld: true })),
      /Python 3\.8\.10, older than 3\.9/,
    ],
    ['a Python without venv', () => program('novenv', answer({ hasVenv: false })), /no venv module/],
    [
      'a Python without pip and ensurepip',
      () => program('nopip', answer({ hasVenv: true, hasPip: false, hasEnsurepip: false })),
      /neither pip nor ensurepip/,
    ],
  ])('is refused with its reason: %s', async (_, make, reason) => {
    const path = make()
    await expect(inspectPython(path, { signal })).rejects.toMatchObject({
      code: 'no_interpreter',
      message: expect.stringMatching(reason) as string,
    })
    await expect(inspectPython(path, { signal })).rejects.toThrow(path)
  })
})
