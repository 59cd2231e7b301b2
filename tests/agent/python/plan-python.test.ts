import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { planPython } from '../../../agent/python/plan-python.ts'
import { makeElf } from '../../support/elf/make-elf.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython, TORCH_BASE } from '../../support/wheels/python-world.ts'
import { makeSourceArchive } from '../../support/wheels/source-archive.ts'

const { missing } = systemPython()

describe.skipIf(missing !== undefined)(
  `a plan for a Python with a CUDA torch (${missing ?? 'with python3'})`,
  () => {
    let world: PythonWorld
    let digest: string
    beforeAll(() => {
      world = makePythonWorld([...TORCH_BASE, 'shelf==1.0'])
    })
    afterAll(() => world.close())
    beforeEach(() => {
      digest = world.digest()
    })
    afterEach(() => {
      expect(world.digest()).toBe(digest)
      expect(existsSync(world.context.folder) ? world.digest(world.context.folder) : '').toBe(emptyFolder())
    })
    /** A plan leaves nothing behind, not even its scratch. */
    const emptyFolder = (): string => {
      if (!existsSync(world.context.folder)) return ''
      mkdirSync(join(world.folder, 'empty'), { recursive: true })
      return world.digest(join(world.folder, 'empty'))
    }

    const file = (text: string, name = 'requirements.txt'): string => {
      writeFileSync(join(world.folder, name), text)
      return join(world.folder, name)
    }
    const install = (...specs: string[]) => ({ install: specs.map((spec) => ({ spec })) })
    const names = (plan: { changes: readonly { name: string; to: string }[] }) =>
      plan.changes.map((change) => `${change.name} ${change.to}`).sort()

    test('brings what is missing and nothing else (case 1)', async () => {
      const plan = await world.plan(install('nodea'))
      expect(plan.problems).toEqual([])
      expect(names(plan)).toEqual(['einops 0.8.0', 'nodea 1.0'])
      expect(plan.dists.every((dist) => /^[0-9a-f]{64}$/.test(dist.sha256 ?? ''))).toBe(true)
    })

    test('refuses a newer torch and says which requirement wanted it (case 2, incident B1)', async () => {
      const requirements = file('# node b\neinops\n\nnodeb')
      const plan = await world.plan({ requirements: [requirements] })
      expect(plan.changes).toEqual([])
      expect(plan.problems).toMatchObject([
        { code: 'install_blocked', severity: 'error', subject: 'torch', at: { file: requirements, line: 4 } },
      ])
      expect(plan.problems[0]!.message).toContain(
        `torch 2.9.1+cu128 → 2.10.0+cu130 because nodeb 1.0 requires torch>=2.10 (${requirements}:4)`,
      )
    })

    test('refuses an older numpy (case 3)', async () => {
      const plan = await world.plan(install('nodec'))
      expect(plan.problems).toMatchObject([{ code: 'install_blocked', subject: 'numpy' }])
      expect(plan.problems[0]!.message).toContain('numpy 2.2.6 → 1.26.4 because nodec 1.0 requires numpy<2')
    })

    test('leaves a torch that satisfies alone (case 4)', async () => {
      expect(names(await world.plan(install('noded')))).toEqual(['noded 1.0'])
    })

    test('takes an older version of a dependency that keeps torch (case 5)', async () => {
      expect(names(await world.plan(install('nodef')))).toEqual(['facelib 2.0', 'nodef 1.0'])
    })

    test.each([
      ['Torch >= 2.10', 'error'],
      ['torch[opt]>=2.10', 'error'],
      ['numpy<2', 'error'],
    ])('sees through the spelling of a protected name: %s (case 9)', async (spec) => {
      const plan = await world.plan(install(spec))
      expect(plan.changes).toEqual([])
      expect(plan.problems).toMatchObject([{ code: 'install_blocked', severity: 'error' }])
    })

    test.each([
      ['torch ; python_version>"3"'],
      ['torch==2.9.1'],
      ['torch==2.9.1+cu128'],
      ['nothing; sys_platform=="win32"'],
    ])('does nothing and starts no pip for %s (cases 4, 9)', async (spec) => {
      // pip only ever runs in a scratch Python under this folder.
      const folder = join(world.folder, 'untouched')
      const plan = await world.plan(install(spec), { folder })
      expect([plan.changes, plan.problems]).toEqual([[], []])
      expect(existsSync(folder)).toBe(false)
    })

    test('only warns about a protected name in a file that somebody else wrote', async () => {
      const requirements = file('einops\ntorch>=2.10\n')
      const plan = await world.plan({ requirements: [requirements] })
      expect(names(plan)).toEqual(['einops 0.8.0'])
      expect(plan.problems).toMatchObject([
        {
          code: 'install_blocked',
          severity: 'warning',
          subject: 'torch',
          at: { file: requirements, line: 2 },
        },
      ])
      expect(plan.problems[0]!.message).toContain('wants torch>=2.10, but torch 2.9.1+cu128 is protected')
    })

    test('reports a source archive without running it (case 10)', async () => {
      const marker = join(world.folder, 'was-run')
      makeSourceArchive(
        { name: 'evil', version: '1.0', setup: `open(${JSON.stringify(marker)}, 'w')` },
        world.index,
      )
      const plan = await world.plan(install('evil'))
      expect(plan.problems).toMatchObject([{ code: 'install_needs_build', subject: 'evil' }])
      expect(existsSync(marker)).toBe(false)
      rmSync(join(world.index, 'evil-1.0.tar.gz'))
    })

    test('says why each wheel does not fit, every one at once (case 12)', async () => {
      const plan = await world.plan(install('onlycp310', 'newglibc', 'py4only', 'nosuch', 'einops==9'))
      const said = Object.fromEntries(plan.problems.map((problem) => [problem.subject, problem.message]))
      expect(plan.problems.map((problem) => problem.code)).toEqual(Array(5).fill('install_unresolvable'))
      expect(said['onlycp310']).toMatch(/cp310-cp310-linux_x86_64.*compatible/)
      expect(said['newglibc']).toMatch(/manylinux_2_99/)
      expect(said['py4only']).toMatch(/different Python.*>=4\.0/)
      expect(said['nosuch']).toMatch(/from versions: none/)
      expect(said['einops==9']).toMatch(/from versions: 0\.7\.0, 0\.8\.0/)
    })

    test('finds two files that exclude each other and names both, without pip (case 30)', async () => {
      mkdirSync(join(world.folder, 'nodes/a'), { recursive: true })
      mkdirSync(join(world.folder, 'nodes/b'), { recursive: true })
      const a = file('scipy<2', 'nodes/a/requirements.txt')
      const b = file('scipy>=2', 'nodes/b/requirements.txt')
      const plan = await world.plan(
        { requirements: [join(world.folder, 'nodes/*/requirements.txt')] },
        { environment: { PATH: process.env['PATH'], PIP_NO_INDEX: '1' } },
      )
      expect(plan.problems).toMatchObject([
        { code: 'requirement_conflict', severity: 'error', at: { file: a } },
      ])
      expect(plan.problems[0]!.message).toContain(`${b}:1`)
      rmSync(join(world.folder, 'nodes'), { recursive: true })
    })

    test('finds no conflict where a version is left', async () => {
      const requirements = file('einops~=0.7\neinops<0.8.1\neinops!=0.7.0\neinops>=0.7.dev1\n')
      const plan = await world.plan({ requirements: [requirements] })
      expect(plan.problems).toEqual([])
      expect(names(plan)).toEqual(['einops 0.8.0'])
    })

    test('calls a line invalid with file and line (case 31)', async () => {
      const requirements = file('einops\nnumpy=1.2\n${TOKEN}abc\n')
      const plan = await world.plan({ requirements: [requirements] })
      expect(plan.problems.map(({ code, severity, at }) => [code, severity, at?.line])).toEqual([
        ['requirement_invalid', 'error', 2],
        ['requirement_invalid', 'error', 3],
      ])
    })

    test('ignores an index on the line of torch and checks torch (case 32)', async () => {
      const requirements = file('torch>=2.10 --index-url https://evil.example\n')
      const plan = await world.plan({ requirements: [requirements] })
      expect(plan.problems.map((problem) => problem.code)).toEqual(['requirement_invalid', 'install_blocked'])
      expect(plan.changes).toEqual([])
    })

    test('is the same in a hostile environment (case 33)', async () => {
      const clean = await world.plan(install('nodea'))
      const hostile = await world.plan(install('nodea'), {
        environment: {
          ...world.context.environment,
          PIP_TARGET: join(world.folder, 'elsewhere'),
          PIP_USER: '1',
          PIP_NO_DEPS: '1',
          PIP_UPGRADE: '1',
          PIP_UPGRADE_STRATEGY: 'eager',
          PIP_REQUIRE_HASHES: '1',
          PYTHONPATH: join(world.folder, 'elsewhere'),
          PYTHONHOME: '/nonexistent',
          UV_INDEX_URL: 'https://evil.example',
        },
      })
      expect(hostile.changes).toEqual(clean.changes)
      expect(hostile.problems).toEqual([])
      expect(hostile.digest).toBe(clean.digest)
    })

    test('honours the constraints that the image already has', async () => {
      const constraint = join(world.folder, 'constraint.txt')
      writeFileSync(constraint, '# of the image\neinops<0.8\ntorch==9.9\n')
      const plan = await world.plan(install('nodea'), {
        environment: { ...world.context.environment, PIP_CONSTRAINT: constraint },
      })
      expect(names(plan)).toEqual(['einops 0.7.0', 'nodea 1.0'])
      expect(plan.constraints).toContain('einops<0.8')
      expect(plan.constraints).toContain('torch===2.9.1+cu128')
      expect(plan.constraints).not.toContain('torch==9.9')
    })

    test('reads where packages come from out of pip.conf, and nothing else', async () => {
      mkdirSync(join(world.folder, '.config/pip'), { recursive: true })
      writeFileSync(
        join(world.folder, '.config/pip/pip.conf'),
        `[global]\nno-index = true\ntarget = /nonexistent\nno-deps = true\nfind-links =\n    /nonexistent\n    ${world.index}\n`,
      )
      const environment = { PATH: process.env['PATH'], HOME: world.folder }
      const plan = await world.plan(install('nodea'), { environment, readPipConfig: true })
      expect(names(plan)).toEqual(['einops 0.8.0', 'nodea 1.0'])
      rmSync(join(world.folder, '.config'), { recursive: true })
    })

    test('installs without dependencies where the manifest says so', async () => {
      const plan = await world.plan({ install: [{ spec: 'nodeb', no_deps: true }, { spec: 'einops' }] })
      expect(plan.problems).toEqual([])
      expect(names(plan)).toEqual(['einops 0.8.0', 'nodeb 1.0'])
    })

    test('protects what the manifest protects', async () => {
      const free = await world.plan(install('shelf>=2'))
      expect(free.changes).toEqual([{ name: 'shelf', from: '1.0', to: '2.0' }])
      const plan = await world.plan({ ...install('shelf>=2'), protect: ['Shelf'] })
      expect(plan.problems).toMatchObject([{ code: 'install_blocked', subject: 'shelf' }])
    })

    test('checks the hashes that a line gives', async () => {
      const wrong = await world.plan({
        requirements: [file(`einops==0.8.0 --hash=sha256:${'0'.repeat(64)}\n`)],
      })
      expect(wrong.problems).toMatchObject([{ code: 'hash_mismatch', at: { line: 1 } }])
      const sha256 = (await world.plan(install('einops'))).dists[0]!.sha256!
      const right = await world.plan({ requirements: [file(`einops==0.8.0 --hash=sha256:${sha256}\n`)] })
      expect(right.problems).toEqual([])
      expect(names(right)).toEqual(['einops 0.8.0'])
    })

    test('warns when an upgrade breaks what another dist requires', async () => {
      makeWheel({ name: 'needsshelf', version: '1.0', requires: ['shelf<2'] }, world.index)
      const other = makePythonWorld([])
      makeWheel({ name: 'needsshelf', version: '1.0', requires: ['shelf<2'] }, other.index)
      other.bake('shelf==1.0', 'needsshelf')
      const plan = await other.plan(install('shelf>=2'))
      expect(plan.changes).toEqual([{ name: 'shelf', from: '1.0', to: '2.0' }])
      expect(plan.problems).toMatchObject([
        { code: 'requirement_conflict', severity: 'warning', subject: 'needsshelf' },
      ])
      other.close()
    })

    test.each([
      [{ spec: 'torch @ https://example.com/torch-9-py3-none-any.whl' }, 'not_supported'],
      [{ spec: './local.whl' }, 'not_supported'],
      [{ spec: 'einops --index-url https://evil.example' }, 'requirement_invalid'],
      [{ spec: 'einops\n--index-url https://evil.example' }, 'requirement_invalid'],
      [{ spec: 'einops @ file:///etc/passwd' }, 'not_supported'],
      [{ spec: 'einops @ git+ext::sh -c "touch owned"' }, 'not_supported'],
    ])('T38: refuses %j by name (case 45)', async (entry, code) => {
      const plan = await world.plan({ install: [entry] })
      expect(plan.problems).toMatchObject([{ code, severity: 'error' }])
      expect(plan.changes).toEqual([])
    })

    // As python install sends them, past the manifest's own schema.
    test.each(['--index-url=https://evil.example', '-r https://evil.example/r.txt', '-e .', '--pre'])(
      'T38: refuses the option %s in the place of a requirement',
      async (spec) => {
        const wanted = { ...world.request(), install: [{ spec, no_deps: false }] }
        const plan = await planPython(wanted, world.context)
        expect(plan.problems).toMatchObject([{ severity: 'error' }])
        expect(plan.changes).toEqual([])
      },
    )

    test('has the same digest for the same wishes, and another for others', async () => {
      const [first, second, other] = [
        await world.plan(install('nodea')),
        await world.plan(install('nodea')),
        await world.plan(install('noded')),
      ]
      expect(first.digest).toBe(second.digest)
      expect(first.digest).not.toBe(other.digest)
    })

    test('takes the files of custom nodes beside the patterns of the manifest', async () => {
      const requirements = file('einops', 'node[1].txt')
      const plan = await planPython(
        { ...world.request(), requirementFiles: [requirements, join(world.folder, 'not-there.txt')] },
        world.context,
      )
      expect(plan.problems).toEqual([])
      expect(names(plan)).toEqual(['einops 0.8.0'])
    })

    test('stops when it is told to', async () => {
      const reason = new Error('enough')
      await expect(world.plan(install('nodea'), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    })
  },
)

describe.skipIf(missing !== undefined)(
  `a plan around odd versions of torch (${missing ?? 'with python3'})`,
  () => {
    let world: PythonWorld
    beforeAll(() => {
      world = makePythonWorld(['numpy==2.2.6'])
    })
    afterAll(() => world.close())
    const withTorch = async (version: string, spec: string) => {
      makeWheel({ name: 'torch', version, requires: ['numpy'] }, world.index)
      world.bake(`torch===${version}`)
      const digest = world.digest()
      const plan = await world.plan({ install: [{ spec }] })
      expect(world.digest()).toBe(digest)
      return plan
    }

    test.each([
      ['2.9.1+cu126', 'torch==2.9.1', 'another CUDA build (case 6)'],
      ['2.9.1', 'torch', 'a build with a local label (case 7)'],
      ['2.10.0a0+b4.nv25.12', 'torch>=2.0', 'a release (case 8a)'],
    ])('%s satisfies %s and is not exchanged for %s', async (version, spec) => {
      const plan = await withTorch(version, spec)
      expect([plan.changes, plan.problems]).toEqual([[], []])
    })

    test('2.9.1+cu126 is not exchanged for another CUDA build by what comes along (case 6)', async () => {
      const plan = await withTorch('2.9.1+cu126', 'xformers==0.0.33')
      expect(plan.problems).toEqual([])
      expect(plan.changes).toEqual([{ name: 'xformers', from: null, to: '0.0.33' }])
    })

    test('a pre-release of the vendor is not replaced by the release (case 8b)', async () => {
      const plan = await withTorch('2.10.0a0+b4.nv25.12', 'nodeb')
      expect(plan.changes).toEqual([])
      expect(plan.problems).toMatchObject([{ code: 'install_blocked', subject: 'torch' }])
    })

    test('a requirement that the image never met is not reported and not installed (case 34)', async () => {
      makeWheel({ name: 'torch', version: '3.0', requires: ['numpy', 'cuda-bindings'] }, world.index)
      world.bake('torch==3.0')
      const plan = await world.plan({ install: [{ spec: 'noded' }] })
      expect(plan.problems).toEqual([])
      expect(plan.changes).toEqual([{ name: 'noded', from: null, to: '1.0' }])
    })

    test('what is linked to torch or CUDA is protected, under any name', async () => {
      const linked = (needed: string) => ({ [`${needed}-user.so`]: makeElf({ needed: [needed] }) })
      makeWheel({ name: 'fastops', version: '1.0', files: linked('libc10_cuda.so') }, world.index)
      makeWheel({ name: 'fastops', version: '2.0' }, world.index)
      makeWheel({ name: 'plainops', version: '1.0', files: linked('libm.so.6') }, world.index)
      world.bake('fastops==1.0', 'plainops==1.0')
      const plan = await world.plan({ install: [{ spec: 'fastops>=2' }] })
      expect(plan.problems).toMatchObject([{ code: 'install_blocked', subject: 'fastops' }])
      expect(plan.constraints).toContain('fastops===1.0')
      expect(plan.constraints).not.toContain('plainops===1.0')
    })

    test('what torch pins exactly is protected with it, and what that pins', async () => {
      makeWheel({ name: 'pinned', version: '1.0', requires: ['einops==0.7.0'] }, world.index)
      makeWheel({ name: 'torch', version: '3.1', requires: ['numpy', 'pinned==1.0'] }, world.index)
      world.bake('torch==3.1', 'pinned==1.0', 'einops==0.7.0')
      const plan = await world.plan({ install: [{ spec: 'einops>=0.8' }] })
      expect(plan.problems).toMatchObject([{ code: 'install_blocked', subject: 'einops' }])
    })
  },
)

describe.skipIf(missing !== undefined)(`a plan around OpenCV (${missing ?? 'with python3'})`, () => {
  test('takes one build of it for the others, also behind a dependency (case 23)', async () => {
    const world = makePythonWorld([])
    try {
      const files = { 'cv2/__init__.py': "__version__ = '4.10'\n" }
      makeWheel({ name: 'opencv-python', version: '4.10', files }, world.index)
      makeWheel({ name: 'opencv-python-headless', version: '4.14', files }, world.index)
      makeWheel({ name: 'nodecv', version: '1.0', requires: ['opencv-python-headless'] }, world.index)
      world.bake('opencv-python')
      const direct = await world.plan({ install: [{ spec: 'opencv-python-headless>=4' }] })
      expect([direct.changes, direct.problems]).toEqual([[], []])
      const behind = await world.plan({ install: [{ spec: 'nodecv' }] })
      expect(behind.changes).toEqual([{ name: 'nodecv', from: null, to: '1.0' }])
      const newer = await world.plan({ install: [{ spec: 'opencv-python-headless>=4.12' }] })
      expect(newer.problems).toMatchObject([{ code: 'install_blocked' }])
    } finally {
      world.close()
    }
  })
})
