import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { PythonPlan } from '../../../agent/python/plan-python.ts'
import { allOverlayDists } from '../../../agent/python/unwanted-dists.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import { takeBackInstall } from '../../../agent/python/take-back.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython, TORCH_BASE } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()
/** What two builds of one package both bring, as those of OpenCV do. */
const LENS = { 'lens/__init__.py': '', 'lens/glass.py': '' }

describe.skipIf(missing !== undefined)(`an install into the overlay (${missing ?? 'with python3'})`, () => {
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
    rmSync(world.context.folder, { recursive: true, force: true })
  })

  const install = (...specs: string[]) => ({ install: specs.map((spec) => ({ spec })) })
  const apply = async (python: Record<string, unknown>) => {
    const plan = await world.plan(python)
    return { plan, ready: await preparePython(plan, world.context) }
  }
  const python = (plan: PythonPlan, ...args: string[]) =>
    spawnSync(plan.interpreter, args, {
      encoding: 'utf8',
      // The image’s files are compared byte by byte, and Python would compile them beside.
      env: { PATH: '/usr/bin:/bin', PYTHONDONTWRITEBYTECODE: '1', ...plan.environment },
    })
  /** What earlier installs can be taken back with stays. */
  const besidesKept = (root: string) => readdirSync(root).filter((name) => !name.startsWith('kept-'))
  const envOf = (plan: PythonPlan) => join(plan.root, 'env')
  const siteOf = (plan: PythonPlan) =>
    join(envOf(plan), 'lib', readdirSync(join(envOf(plan), 'lib'))[0]!, 'site-packages')
  const history = () =>
    world.context.db.prepare('SELECT state, reason FROM python_installs ORDER BY began_at').all()
  /** Only the environment and what belongs to it is left of a transaction. */
  const expectNoLeftovers = (plan: PythonPlan) => {
    expect(besidesKept(plan.root)).toEqual(['env', 'protected.txt'])
    expect(readdirSync(world.context.folder)).toEqual([plan.root.split('/').at(-1)])
  }

  test('sees the base, adds to it, proves the imports, and is idempotent', async () => {
    const before = world.events.length
    const { plan, ready } = await apply({ ...install('nodea'), imports: ['nodea', 'einops', 'torch'] })
    expect(ready.changes).toEqual(plan.changes)
    const said = python(plan, '-c', 'import torch, nodea; print(torch.__file__); print(nodea.__file__)')
    expect(said.stdout).toContain(join(world.folder, 'base'))
    expect(said.stdout).toContain(envOf(plan))
    expectNoLeftovers(plan)
    expect(world.events.slice(before).map((event) => event.type)).toEqual([
      'python.planned',
      'python.imports-proven',
      'python.installed',
    ])
    const again = await apply({ ...install('nodea'), imports: ['nodea'] })
    expect(again.plan.changes).toEqual([])
  })

  test('a package that nothing asks for any more stays, and the next plan lists it with what it had brought', async () => {
    await apply(install('nodea'))
    const isListed = (name: string) => ['nodea', 'einops'].includes(name)
    const left = async (python: Parameters<typeof world.plan>[0]) =>
      (await world.plan(python)).left.filter(({ name }) => isListed(name)).map(({ name }) => name)
    expect(await left(install('nodea'))).toEqual([])
    // nodea requires einops: while nodea is wanted, so is einops.
    expect(await left(install('einops'))).toEqual(['nodea'])
    expect((await left({})).sort()).toEqual(['einops', 'nodea'])
    const lying = await allOverlayDists(world.context.folder)
    expect(lying.filter(({ name }) => isListed(name))).toEqual([
      { name: 'einops', version: '0.8.0' },
      { name: 'nodea', version: '1.0' },
    ])
  })

  test('gives processes the bounds that keep torch where it is (case 38)', async () => {
    const { plan } = await apply(install('einops'))
    expect(readFileSync(plan.environment['PIP_CONSTRAINT']!, 'utf8')).toContain('torch===2.9.1+cu128\n')
    const offline = ['--no-index', '--find-links', world.index]
    const said = python(plan, '-m', 'pip', 'install', ...offline, 'torch==2.10.0')
    expect(said.status).not.toBe(0)
    expect(said.stderr).toContain('conflict')
  })

  test('is taken back when an import fails, with Python’s own message (incident B5)', async () => {
    const { plan } = await apply(install('einops==0.7.0'))
    const env = world.digest(envOf(plan))
    makeWheel(
      { name: 'broken', version: '1.0', files: { 'broken/__init__.py': 'import natsort\n' } },
      world.index,
    )
    await expect(
      apply({ ...install('broken', 'einops==0.8.0'), imports: ['einops', 'broken'] }),
    ).rejects.toMatchObject({
      code: 'import_failed',
      message: "import broken: ModuleNotFoundError: No module named 'natsort'",
    })
    expect(world.digest(envOf(plan))).toBe(env)
    expectNoLeftovers(plan)
    expect(world.events.at(-1)).toMatchObject({ type: 'python.rolled-back' })
    expect(history().at(-1)).toMatchObject({
      state: 'rolled-back',
      reason: expect.stringContaining('natsort') as string,
    })
  })

  test('fails when a required module is missing although nothing is to be installed (incident B5)', async () => {
    await expect(apply({ imports: ['numpy', 'natsort', 'sam2.build'] })).rejects.toMatchObject({
      code: 'import_failed',
      message:
        "import natsort: ModuleNotFoundError: No module named 'natsort'; " +
        "import sam2.build: ModuleNotFoundError: No module named 'sam2'",
    })
  })

  test.each([
    [
      'kills Python',
      'import os, signal\nos.kill(os.getpid(), signal.SIGABRT)\n',
      /import rude ended Python with SIGABRT/,
    ],
    ['leaves without a word', 'import os\nos._exit(3)\n', /import rude ended Python with exit 3/],
    ['raises SystemExit', 'raise SystemExit(0)\n', /import rude: SystemExit: 0/],
    ['never ends', 'import time\nwhile True: time.sleep(1)\n', /import rude did not end within 3 s/],
  ])('is taken back when a module %s (case 21)', async (_, code, message) => {
    makeWheel({ name: 'rude', version: '1.0', files: { 'rude/__init__.py': code } }, world.index)
    const plan = await world.plan({ ...install('rude'), imports: ['numpy', 'rude'] })
    await expect(preparePython(plan, { ...world.context, importTimeoutMs: 3_000 })).rejects.toMatchObject({
      code: 'import_failed',
      message: expect.stringMatching(message) as string,
    })
    expect(python(plan, '-c', 'import rude').status).not.toBe(0)
    expectNoLeftovers(plan)
  })

  test('does not take an empty folder for a module (case 24)', async () => {
    makeWheel({ name: 'ghost', version: '1.0', files: { 'ghost/data.txt': 'left over' } }, world.index)
    await expect(apply({ ...install('ghost'), imports: ['ghost'] })).rejects.toMatchObject({
      code: 'import_failed',
      message: expect.stringContaining('only a folder without a package') as string,
    })
  })

  test('does not take for a module what is left when one of two dists with the same files is removed (case 24)', async () => {
    for (const name of ['lens', 'lens-headless'])
      makeWheel({ name, version: '1.0', files: LENS }, world.index)
    const { plan } = await apply({})
    const offline = ['--no-index', '--find-links', world.index, '--no-deps']
    // As the script of a node would, past every guard; the first import leaves a cache that no dist owns.
    expect(python(plan, '-m', 'pip', 'install', ...offline, 'lens', 'lens-headless').status).toBe(0)
    writeFileSync(join(siteOf(plan), 'lens', 'cache.bin'), '')
    await apply({ imports: ['lens'] })
    expect(python(plan, '-m', 'pip', 'uninstall', '-y', 'lens-headless').status).toBe(0)
    // Python itself is content, and pip lists lens as installed.
    expect(python(plan, '-c', 'import lens').status).toBe(0)
    await expect(apply({ ...install('lens'), imports: ['lens'] })).rejects.toMatchObject({
      code: 'import_failed',
      message: expect.stringContaining('import lens finds only a folder without a package') as string,
    })
  })

  test('refuses a wheel that overwrites files of another dist, before anything is changed (case 23)', async () => {
    const files = (version: string) => ({
      'shelf/__init__.py': `__version__ = '${version}'\n`,
      'shelf/extra.py': `# ${version}\n`,
      'tests/__init__.py': `# ${version}\n`,
    })
    makeWheel({ name: 'shelf-gpu', version: '3.0', files: files('3.0') }, world.index)
    const installs = history().length
    await expect(apply(install('shelf-gpu'))).rejects.toMatchObject({
      code: 'install_clobber',
      message: 'shelf-gpu would overwrite 1 file of shelf',
    })
    expect(history().length).toBe(installs)
    rmSync(join(world.index, 'shelf_gpu-3.0-py3-none-any.whl'))
  })

  test('puts an upgrade of a base package over it; taking it back shows the base again (case 36)', async () => {
    const { plan } = await apply({ ...install('shelf>=2'), imports: ['shelf'] })
    expect(plan.changes).toEqual([{ name: 'shelf', from: '1.0', to: '2.0' }])
    const version = () => python(plan, '-c', 'import shelf; print(shelf.__version__)').stdout.trim()
    expect(version()).toBe('2.0')
    await takeBackInstall(plan.base, { ...world.context, id: null })
    expect(version()).toBe('1.0')
  })

  test('cannot remove a package of the base (case 37)', async () => {
    const { plan } = await apply({})
    const said = python(plan, '-m', 'pip', 'uninstall', '-y', 'numpy')
    expect(said.stdout + said.stderr).toContain('outside environment')
  })

  test('refuses to replace a dist whose RECORD is gone, up front (case 44)', async () => {
    const { plan } = await apply(install('einops==0.7.0'))
    rmSync(join(siteOf(plan), 'einops-0.7.0.dist-info', 'RECORD'))
    const next = await world.plan(install('einops>=0.8'))
    expect(next.problems).toMatchObject([{ code: 'install_blocked', subject: 'einops' }])
    expect(next.problems[0]!.message).toContain('its RECORD is missing')
    await expect(preparePython(next, world.context)).rejects.toMatchObject({ code: 'install_blocked' })
  })

  test('accepts only the wheel that was planned', async () => {
    makeWheel({ name: 'swapped', version: '1.0' }, world.index)
    const plan = await world.plan(install('swapped'))
    makeWheel(
      { name: 'swapped', version: '1.0', files: { 'swapped/__init__.py': 'evil = 1\n' } },
      world.index,
    )
    await expect(preparePython(plan, world.context)).rejects.toMatchObject({ code: 'hash_mismatch' })
    expect(python(plan, '-c', 'import swapped').status).not.toBe(0)
    expectNoLeftovers(plan)
  })

  test('does not start beside another one (case 41)', async () => {
    makeWheel(
      { name: 'slow', version: '1.0', files: { 'slow/__init__.py': 'import time\ntime.sleep(4)\n' } },
      world.index,
    )
    const plan = await world.plan({ ...install('slow'), imports: ['slow'] })
    const first = preparePython(plan, world.context)
    await expect(preparePython(plan, world.context)).rejects.toMatchObject({
      code: 'busy',
      message: expect.stringContaining(`process ${process.pid}`) as string,
    })
    await first
    expectNoLeftovers(plan)
  })

  test('is taken back when it is cancelled', async () => {
    const { plan: empty } = await apply({})
    const env = world.digest(envOf(empty))
    makeWheel(
      { name: 'long', version: '1.0', files: { 'long/__init__.py': 'import time\ntime.sleep(60)\n' } },
      world.index,
    )
    const plan = await world.plan({ ...install('long'), imports: ['long'] })
    const cancel = new AbortController()
    const running = preparePython(plan, { ...world.context, signal: cancel.signal })
    const installed = join(siteOf(plan), 'long')
    while (!existsSync(installed)) await new Promise((resolve) => setTimeout(resolve, 20))
    const reason = new Error('enough')
    cancel.abort(reason)
    await expect(running).rejects.toBe(reason)
    expect(world.digest(envOf(empty))).toBe(env)
    expectNoLeftovers(plan)
  })

  test('finds out when something else wrote into the base meanwhile (case 39)', async () => {
    const shelf = join(
      world.folder,
      'base/lib',
      readdirSync(join(world.folder, 'base/lib'))[0]!,
      'site-packages/shelf/__init__.py',
    )
    const code = readFileSync(shelf, 'utf8')
    const writes = `open(${JSON.stringify(shelf)}, 'a').write('# drift')\n`
    makeWheel({ name: 'drifter', version: '1.0', files: { 'drifter/__init__.py': writes } }, world.index)
    await expect(apply({ ...install('drifter'), imports: ['drifter'] })).rejects.toMatchObject({
      code: 'install_failed',
      message: expect.stringContaining(shelf) as string,
    })
    writeFileSync(shelf, code)
  })

  test('makes a half-made overlay again', async () => {
    const plan = await world.plan(install('einops'))
    mkdirSync(join(envOf(plan), 'lib'), { recursive: true })
    writeFileSync(join(envOf(plan), 'pyvenv.cfg'), 'home = /nonexistent\n')
    await preparePython(plan, world.context)
    expect(python(plan, '-c', 'import einops, torch').status).toBe(0)
  })

  const tmpfs = spawnSync('mount', ['--version']).status === 0 && process.getuid?.() === 0
  test.skipIf(!tmpfs)(
    'is taken back when the disk is full (case 27; needs root for a small disk)',
    async () => {
      const folder = join(world.folder, 'small')
      mkdirSync(folder)
      expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', folder]).status).toBe(0)
      try {
        makeWheel({ name: 'large', version: '1.0', files: { 'large/__init__.py': '' } }, world.index)
        const context = { ...world.context, folder }
        await preparePython(await world.plan(install('large'), { folder }), context)
        const body = `data = '${'x'.repeat(2_500_000)}'\n`
        makeWheel(
          { name: 'large', version: '2.0', files: { 'large/__init__.py': '', 'large/data.py': body } },
          world.index,
        )
        const plan = await world.plan(install('large>=2'), { folder })
        const env = world.digest(envOf(plan))
        // When it was planned there was room: something else took it, so that the wheel fits and its content does not.
        const { bavail, bsize } = statfsSync(folder)
        writeFileSync(join(folder, 'else'), Buffer.alloc(bavail * bsize - 4_000_000))
        await expect(preparePython(plan, context)).rejects.toMatchObject({ code: 'disk_full' })
        expect(world.digest(envOf(plan))).toBe(env)
        expect(python(plan, '-c', 'import large; print(large.__file__)').status).toBe(0)
        expect(besidesKept(plan.root)).toEqual(['env', 'protected.txt'])
      } finally {
        spawnSync('umount', [folder])
      }
    },
  )
})

describe.skipIf(missing !== undefined)(`a Python without pip (${missing ?? 'with python3'})`, () => {
  test('gets one in its overlay, and stays as it is', async () => {
    const world = makePythonWorld([], { pip: false })
    try {
      const digest = world.digest()
      const plan = await world.plan({ install: [{ spec: 'einops' }], imports: ['einops'] })
      expect(plan.problems).toEqual([])
      await preparePython(plan, world.context)
      expect(world.digest()).toBe(digest)
      expect((await world.plan({ install: [{ spec: 'einops' }, { spec: 'shelf' }] })).changes).toEqual([
        { name: 'shelf', from: null, to: '2.0' },
      ])
    } finally {
      world.close()
    }
  })
})
