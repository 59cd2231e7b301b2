import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { PythonContext } from '../../../agent/python/context.ts'
import { checkPython } from '../../../agent/python/check-python.ts'
import { inspectPython } from '../../../agent/python/inspect-python.ts'
import type { PythonPlan } from '../../../agent/python/plan-python.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import { ERROR_CODES, EXIT } from '../../../shared/contract/errors.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()
const canMount = spawnSync('mount', ['--version']).status === 0 && process.getuid?.() === 0

/** Each ends in a refusal with a code and a hint, or in the install that was asked for; never in half of one. */
describe.skipIf(missing !== undefined)(
  `an install under bad conditions (${missing ?? 'with python3'})`,
  () => {
    let world: PythonWorld
    let site: string
    let base: string
    let env: string
    let overlay: string
    beforeAll(async () => {
      world = makePythonWorld(['torch==2.9.1+cu128', 'numpy==2.2.6'])
      site = (await inspectPython(world.interpreter, world.context)).purelib
      const first = await world.plan({ install: [{ spec: 'einops==0.7.0' }] })
      await preparePython(first, world.context)
      env = join(first.root, 'env')
    })
    afterAll(() => world.close())
    beforeEach(() => {
      base = world.digest()
      overlay = world.digest(env)
    })
    afterEach(() => {
      expect(world.digest()).toBe(base)
      expect(world.digest(env)).toBe(overlay)
    })
    const plan = (specs: readonly string[], context: Partial<PythonContext> = {}, python = {}) =>
      world.plan({ install: specs.map((spec) => ({ spec })), ...python }, context)
    const errorsOf = ({ problems }: PythonPlan) => problems.filter(({ severity }) => severity === 'error')

    test.each([
      ['einops --index-url https://evil.example', 'requirement_invalid'],
      ['einops --pre', 'requirement_invalid'],
      ['einops\n--pre', 'requirement_invalid'],
      ['einops\x85--pre', 'requirement_invalid'],
      ['einops\u2028--pre', 'requirement_invalid'],
      ['$(touch marker)', 'requirement_invalid'],
      ['einops; touch marker', 'requirement_invalid'],
      ['@/etc/passwd', 'requirement_invalid'],
      ['/etc/passwd', 'not_supported'],
      ['einops @ file:///tmp/einops', 'not_supported'],
      ['git+https://example.com/a.git@--upload-pack=touch', 'not_supported'],
    ])('a spec that hides an option or a command is refused: %j', async (spec, code) => {
      const refused = await plan([spec])
      expect(errorsOf(refused)).toMatchObject([{ code, hint: expect.stringMatching(/./) as string }])
      await expect(preparePython(refused, world.context)).rejects.toMatchObject({ code })
      expect(existsSync('marker')).toBe(false)
    })

    test.each([['--index-url=https://evil.example'], ['-r /etc/passwd'], ['-e .'], ['-i']])(
      'a spec that is an option is no manifest at all: %s',
      (spec) => {
        expect(() => world.request({ install: [{ spec }] })).toThrow('is an option of pip')
      },
    )

    test('a line of a requirements file gives pip no options, and no second index behind the first', async () => {
      const file = join(world.folder, 'requirements.txt')
      writeFileSync(
        file,
        'nodea --target /nonexistent\n--target=/nonexistent\n' +
          '--extra-index-url https://good.example http://plain.example\n',
      )
      const found = await plan([], {}, { requirements: [file] })
      expect(found.problems.map(({ code, at }) => [code, at?.line])).toEqual([
        ['requirement_invalid', 1],
        ['requirement_invalid', 2],
        ['requirement_invalid', 3],
      ])
      expect(found.indexes).toEqual([])
      expect(found.changes.map(({ name }) => name)).toEqual(['nodea'])
    })

    test('variables of pip and Python change nothing, and no code of theirs is run', async () => {
      const hostile = join(world.folder, 'hostile')
      mkdirSync(hostile)
      const marker = join(hostile, 'was-run')
      for (const name of ['sitecustomize.py', 'usercustomize.py', 'pip.py', 'startup.py'])
        writeFileSync(join(hostile, name), `open(${JSON.stringify(marker)}, 'w').close()\n`)
      const context = {
        ...world.context,
        environment: {
          ...world.context.environment,
          PIP_TARGET: hostile,
          PIP_PREFIX: hostile,
          PIP_ROOT: hostile,
          PIP_USER: '1',
          PIP_NO_DEPS: '1',
          PIP_DRY_RUN: '1',
          PIP_REQUIREMENT: '/nonexistent',
          PIP_NO_BINARY: ':all:',
          PIP_CONFIG_FILE: '/nonexistent',
          PIP_PYTHON: '/nonexistent',
          PYTHONPATH: hostile,
          PYTHONHOME: '/nonexistent',
          PYTHONSTARTUP: join(hostile, 'startup.py'),
          PYTHONUSERBASE: hostile,
          PYTHONINSPECT: '1',
          UV_INDEX_URL: 'https://evil.example',
        },
      }
      const imports = { imports: ['nodea', 'einops'] }
      const ready = await preparePython(await plan(['nodea'], context, imports), context)
      expect(ready.changes).toEqual([{ name: 'nodea', from: null, to: '1.0' }])
      expect(existsSync(marker)).toBe(false)
      overlay = world.digest(env)
    })

    test('a package of the image whose metadata is no text is named, for pip breaks off at it', async () => {
      const broken = join(site, 'weird-1.0.dist-info')
      mkdirSync(broken)
      const text = 'Metadata-Version: 2.1\nName: weird\nVersion: 1.0\nSummary: caf\xe9\n'
      writeFileSync(join(broken, 'METADATA'), Buffer.from(text, 'latin1'))
      try {
        expect(errorsOf(await plan(['shelf']))).toMatchObject([
          {
            code: 'install_unresolvable',
            message: expect.stringContaining(broken) as string,
            hint: expect.stringContaining('in the image') as string,
          },
        ])
        expect((await checkPython(world.request(), world.context)).problems).toMatchObject([
          { subject: broken },
        ])
      } finally {
        rmSync(broken, { recursive: true })
      }
    })

    test('a package of the image that lacks its version or asks for nonsense harms nobody', async () => {
      const texts = {
        noversion: 'Name: noversion\n',
        nonsense: 'Metadata-Version: 2.1\nName: nonsense\nVersion: 1.0\nRequires-Dist: foo (>=1.*,bad\n',
      }
      const folders = Object.entries(texts).map(([name, text]) => {
        const folder = join(site, `${name}-1.0.dist-info`)
        mkdirSync(folder)
        writeFileSync(join(folder, 'METADATA'), text)
        return folder
      })
      mkdirSync(join(site, 'empty-1.0.dist-info'))
      try {
        const found = await plan(['shelf', 'einops==0.7.0'])
        expect([found.changes, found.problems]).toEqual([[{ name: 'shelf', from: null, to: '2.0' }], []])
      } finally {
        for (const folder of [...folders, join(site, 'empty-1.0.dist-info')])
          rmSync(folder, { recursive: true })
      }
    })

    test('a wheel with broken metadata, another name or no content is refused with what is wrong with it', async () => {
      makeWheel({ name: 'nonsense', version: '1.0', requires: ['foo (>=1.*,bad'] }, world.index)
      const honest = makeWheel({ name: 'honest', version: '1.0' }, world.index)
      writeFileSync(join(world.index, 'liar-1.0-py3-none-any.whl'), readFileSync(honest))
      writeFileSync(join(world.index, 'nozip-1.0-py3-none-any.whl'), 'not a zip')
      const said = errorsOf(await plan(['nonsense', 'liar', 'nozip']))
      expect(said.map(({ code }) => code)).toEqual(Array(3).fill('install_unresolvable'))
      expect(said.map(({ message }) => message)).toEqual([
        expect.stringMatching(/nonsense cannot be installed: pip broke off: InvalidRequirement: /),
        expect.stringMatching(/liar cannot be installed: .*does not start with 'liar'/),
        expect.stringMatching(/nozip cannot be installed: .*is invalid/),
      ])
    })

    test('an index that does not answer is told as that, without its password', async () => {
      const environment = {
        PATH: process.env['PATH'],
        HOME: world.folder,
        // Nothing can listen there.
        PIP_INDEX_URL: 'http://user:secret@127.0.0.1:1/simple',
        PIP_RETRIES: '1',
      }
      const said = errorsOf(await plan(['shelf'], { environment }))
      expect(said).toMatchObject([
        {
          code: 'source_unavailable',
          message: expect.stringMatching(
            /^the package index does not answer \(http:\/\/127\.0\.0\.1:1\/simple\): .*Connection refused/,
          ) as string,
          hint: expect.stringContaining('PIP_INDEX_URL') as string,
        },
      ])
      // The plan was made while it still answered.
      const planned = await plan(['shelf'])
      await expect(preparePython(planned, { ...world.context, environment })).rejects.toMatchObject({
        code: 'source_unavailable',
        message: expect.not.stringContaining('secret') as string,
      })
    })

    test('of two installs at once the second is busy, with exit status 8, and the first is kept', async () => {
      const [one, two] = [await plan(['shelf==1.0']), await plan(['shelf==2.0'])]
      const first = preparePython(one, world.context)
      const second = (await preparePython(two, world.context).catch((error: unknown) => error)) as {
        code: keyof typeof ERROR_CODES
      }
      expect([second.code, ERROR_CODES[second.code].exit]).toEqual(['busy', EXIT.busy])
      await first
      expect((await plan(['shelf==1.0'])).changes).toEqual([])
      overlay = world.digest(env)
    })

    describe.skipIf(!canMount)('with a file system of its own (needs root)', () => {
      const withDisk = async (use: (folder: string) => Promise<void>): Promise<void> => {
        const folder = join(world.folder, 'small')
        mkdirSync(folder)
        expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]).status).toBe(0)
        try {
          await use(folder)
        } finally {
          spawnSync('umount', [folder])
          rmSync(folder, { recursive: true })
        }
      }

      test('a full disk is told as that by the plan and by the install; afterwards both work', () =>
        withDisk(async (folder) => {
          const context = { ...world.context, folder }
          const fill = join(folder, 'fill')
          const fillUp = () => spawnSync('dd', ['if=/dev/zero', `of=${fill}`, 'bs=4k'])
          fillUp()
          expect(errorsOf(await plan(['shelf'], { folder }))).toMatchObject([{ code: 'disk_full' }])
          rmSync(fill)
          const planned = await plan(['shelf'], { folder })
          fillUp()
          await expect(preparePython(planned, context)).rejects.toMatchObject({ code: 'disk_full' })
          rmSync(fill)
          expect((await preparePython(planned, context)).changes).toHaveLength(1)
        }))

      test('a state folder that is read-only is told as that, and stays as it is', () =>
        withDisk(async (folder) => {
          const context = { ...world.context, folder }
          await preparePython(await plan(['shelf==1.0'], { folder }), context)
          const next = await plan(['shelf==2.0'], { folder })
          const before = world.digest(folder)
          spawnSync('mount', ['-o', 'remount,ro', folder])
          expect(errorsOf(await plan(['shelf==2.0'], { folder }))).toMatchObject([{ code: 'read_only' }])
          await expect(preparePython(next, context)).rejects.toMatchObject({ code: 'read_only' })
          expect(world.digest(folder)).toBe(before)
        }))

      test('a read-only image is no hindrance: nothing is ever written there', async () => {
        const image = join(world.folder, 'base')
        expect(spawnSync('mount', ['--bind', image, image]).status).toBe(0)
        try {
          expect(spawnSync('mount', ['-o', 'remount,bind,ro', image]).status).toBe(0)
          const imports = { imports: ['noded', 'torch'] }
          const ready = await preparePython(await plan(['noded'], {}, imports), world.context)
          expect(ready.changes).toEqual([{ name: 'noded', from: null, to: '1.0' }])
        } finally {
          spawnSync('umount', [image])
        }
        overlay = world.digest(env)
      })
    })
  },
)
