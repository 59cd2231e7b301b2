import { mkdirSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { checkPython } from '../../../agent/python/check-python.ts'
import { inspectPython } from '../../../agent/python/inspect-python.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import { probeImports } from '../../../agent/python/probe-imports.ts'
import { makeElf } from '../../support/elf/make-elf.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()

describe.skipIf(missing !== undefined)(
  `what is imported after an install (${missing ?? 'with python3'})`,
  () => {
    let world: PythonWorld
    let base: string
    const wheel = (name: string, code: string, version = '1.0') =>
      makeWheel({ name, version, files: { [`${name}/__init__.py`]: code } }, world.index)
    beforeAll(() => {
      world = makePythonWorld([])
      // The metadata of the index’s torch has no label; the module has.
      const files = {
        'torch/__init__.py': "__version__ = '2.14.1+cu130'\n",
        'torch/version.py': "__version__ = '2.14.1+cu130'\ncuda = '13.0'\n",
      }
      makeWheel({ name: 'torch', version: '2.14.1', files, requires: ['numpy'] }, world.index)
      wheel('torchaudio', "import shelf\nassert shelf.__version__ == '1.0', 'shelf is too new'\n", '2.14.1')
      wheel('cv2', "raise ImportError('libGL.so.1: cannot open shared object file')\n")
      wheel('poison', 'import sys\nsys.poisoned = True\n')
      wheel('victim', "import os, sys\nif hasattr(sys, 'poisoned'): os.abort()\n")
      world.bake('torch===2.14.1', 'torchaudio==2.14.1', 'cv2', 'shelf==1.0', 'numpy', 'poison', 'victim')
      base = world.digest()
    })
    afterAll(() => world.close())
    afterEach(() => expect(world.digest()).toBe(base))
    const apply = async (spec: string, imports: string[] = []) =>
      preparePython(await world.plan({ install: [{ spec }], imports }), world.context)
    const installed = async (spec: string) => (await world.plan({ install: [{ spec }] })).changes.length === 0

    test('are the image’s own: an upgrade that breaks one is taken back, and it is named', async () => {
      await expect(apply('shelf>=2')).rejects.toMatchObject({
        code: 'import_failed',
        message: 'import torchaudio: AssertionError: shelf is too new; it imports without this install',
      })
      expect(await installed('shelf>=2')).toBe(false)
    })

    test('may fail as they did before; a label that only the module has is no change (case 40)', async () => {
      await apply('einops', ['torch'])
      expect(await installed('einops')).toBe(true)
      const { problems } = await checkPython(world.request(), world.context)
      expect(problems).toEqual([])
      expect((await world.plan({ install: [{ spec: 'torch==2.14.1' }] })).problems).toEqual([])
    })

    test.skipIf(process.arch !== 'x64')(
      'are the new ones with shared objects: one that kills Python is taken back (case 21)',
      async () => {
        const { suffixes } = await inspectPython(world.interpreter, world.context)
        const core = makeElf({ module: 'core', init: 'crash' })
        const files = {
          'crashing/__init__.py': 'import crashing.core\n',
          [`crashing/core${suffixes[0]}`]: core,
        }
        makeWheel({ name: 'crashing', version: '1.0', files }, world.index)
        await expect(apply('crashing')).rejects.toMatchObject({
          code: 'import_failed',
          message: expect.stringMatching(/^import crashing ended Python with SIG(ILL|SEGV|TRAP)$/) as string,
        })
        expect(await installed('crashing')).toBe(false)
      },
    )

    test('are told apart: the one that died, the one that made it die, and the rest', async () => {
      mkdirSync(world.context.folder, { recursive: true })
      const outcomes = await probeImports(['numpy', 'poison', 'shelf', 'torch', 'victim', 'nosuch'], {
        ...world.context,
        python: world.interpreter,
        variables: {},
        timeoutMs: 60_000,
      })
      const [died, absent] = outcomes.filter(({ failure }) => failure !== null)
      expect(died).toEqual({
        module: 'victim',
        failure: 'ended Python with SIGABRT after import poison, and not without it',
        isCrash: true,
      })
      expect(absent).toMatchObject({ module: 'nosuch', isCrash: false })
      expect(outcomes).toHaveLength(6)
    })
  },
)
