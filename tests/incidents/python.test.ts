import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { checkPython } from '../../agent/python/check-python.ts'
import { inspectPython } from '../../agent/python/inspect-python.ts'
import { preparePython } from '../../agent/python/prepare-python.ts'
import { runNodeScripts } from '../../agent/python/run-node-scripts.ts'
import { makeElf } from '../support/elf/make-elf.ts'
import { makeWheel } from '../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../support/wheels/python-world.ts'

const { missing } = systemPython()
const skip = missing !== undefined || process.arch !== 'x64'

/** A function whose parameters changed with torch 2.10: ib until then, jb from there on. */
const CHECK = '_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_'
/** torch loads its own libraries first, and modules that are linked to it find them by their name. */
const TORCH = `import ctypes, os
ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'lib', 'libc10_cuda.so'), ctypes.RTLD_GLOBAL)
`

/** A box with a CUDA torch and an extension that was built for it, as the incidents found it. */
describe.skipIf(skip)(`Python environments that broke (${missing ?? 'with python3 on x86-64'})`, () => {
  let world: PythonWorld
  let before: string
  let suffix: string
  const wheel = (
    name: string,
    version: string,
    files: Record<string, string | Uint8Array>,
    ...requires: string[]
  ) => makeWheel({ name, version, files, requires }, world.index)
  const torch = (version: string, cuda: string, parameters: string) =>
    wheel('torch', version, {
      'torch/__init__.py': TORCH,
      'torch/version.py': `cuda = '${cuda}'\n`,
      'torch/lib/libc10_cuda.so': makeElf({ soname: 'libc10_cuda.so', exports: [CHECK + parameters] }),
    })
  const extension = (name: string, version: string, parameters: string) =>
    wheel(name, version, {
      [`${name}/__init__.py`]: `import torch\nimport ${name}.core\n`,
      [`${name}/core${suffix}`]: makeElf({
        module: 'core',
        needed: ['libc10_cuda.so'],
        undefined: [CHECK + parameters],
      }),
    })
  beforeAll(async () => {
    world = makePythonWorld([])
    suffix = (await inspectPython(world.interpreter, world.context)).suffixes[0] ?? ''
    torch('2.9.1+cu128', '12.8', 'ib')
    torch('2.10.0+cu130', '13.0', 'jb')
    extension('transformer_engine', '2.8.0', 'ib')
    for (const [version, needs] of [
      ['0.7.1', 'torch>=2.0'],
      ['0.8.0', 'torch>=2.10'],
    ] as const)
      wheel('piq', version, { 'piq/__init__.py': `__version__ = '${version}'\n` }, needs)
    world.bake('torch===2.9.1+cu128', 'numpy==2.2.6', 'transformer_engine', 'piq==0.7.1')
    before = world.digest()
  })
  afterAll(() => world.close())
  afterEach(() => expect(world.digest()).toBe(before))
  const run = (argv: readonly [string, ...string[]], environment: Readonly<Record<string, string>> = {}) =>
    spawnSync(argv[0], argv.slice(1), {
      encoding: 'utf8',
      // The image’s files are compared byte by byte, and Python would compile them beside.
      env: { PATH: '/usr/bin:/bin', PYTHONDONTWRITEBYTECODE: '1', ...environment },
    })
  const offline = () => ['--no-index', '--find-links', world.index, '--disable-pip-version-check']
  const file = (path: string, content: string | Buffer): string => {
    const whole = join(world.folder, path)
    mkdirSync(join(whole, '..'), { recursive: true })
    writeFileSync(whole, content)
    return whole
  }

  test('A2: requirements files of nodes that pip cannot read when they are joined are read one by one', async () => {
    for (const name of ['onnxruntime-gpu', 'insightface', 'ftfy', 'tail', 'far', 'marked'])
      wheel(name, '1.0', {})
    file('nodes/a/requirements.txt', 'onnxruntime-gpu')
    file('nodes/b/requirements.txt', 'insightface')
    file('nodes/c/requirements.txt', 'ftfy')
    // What the launcher did: cat custom_nodes/*/requirements.txt
    const joined = ['a', 'b', 'c'].map((node) =>
      readFileSync(join(world.folder, 'nodes', node, 'requirements.txt')),
    )
    const asked = file('joined.txt', Buffer.concat(joined))
    const said = run([world.interpreter, '-m', 'pip', 'install', '--dry-run', ...offline(), '-r', asked])
    expect(said.status).not.toBe(0)
    expect(said.stderr).toContain('onnxruntime-gpuinsightfaceftfy')

    file('nodes/b/requirements.txt', Buffer.from('\ufeffinsightface\r\n'))
    file('nodes/d/requirements.txt', '# all of pip’s grammar\r\n-r more/inner.txt\r\ntail \\\r\n  ==1.0\r\n')
    file('nodes/d/more/inner.txt', 'far>=1 ; python_version >= "3"\nmarked ; sys_platform == "win32"')
    const plan = await world.plan({ requirements: [join(world.folder, 'nodes/*/requirements.txt')] })
    expect(plan.problems).toEqual([])
    expect(plan.changes.map(({ name }) => name).sort()).toEqual([
      'far',
      'ftfy',
      'insightface',
      'onnxruntime-gpu',
      'tail',
    ])
    expect((await preparePython(plan, world.context)).changes).toHaveLength(5)
  })

  test('A2: every message about a line of a requirements file names the file and the line', async () => {
    const lines =
      'einops\r\n--pre\r\ngit+https://example.com/x.git\r\nnumpy=1\r\nnosuch\r\nnumpy \\\r\n <2\r\neinops<0.8>=0.9'
    const requirements = file('nodes/bad/requirements.txt', lines)
    const inner = file(
      'nodes/bad/inner.txt',
      'torch --index-url https://example.com\n-r gone.txt\ntorch>=2.10',
    )
    const plan = await world.plan({
      requirements: [requirements, inner].map((path) => path.replace('/bad/', '/[b]ad/')),
    })
    const places = plan.problems.map(({ at }) => [at?.file, at?.line])
    expect(places.sort()).toEqual(
      [
        [requirements, 2],
        [requirements, 3],
        [requirements, 4],
        [requirements, 5],
        [requirements, 6],
        [requirements, 8],
        [requirements, 8],
        [inner, 1],
        [inner, 2],
        [inner, 3],
      ].sort(),
    )
    for (const { at, message } of plan.problems) expect(message).toContain(`${at?.file}:${at?.line}`)
  })

  test('B1: pip install -U piq exchanges torch and breaks transformer_engine; here it is refused, and no_deps is kept', async () => {
    const victim = join(world.folder, 'victim')
    cpSync(join(world.folder, 'base'), victim, { recursive: true, verbatimSymlinks: true })
    const python = join(victim, 'bin/python')
    expect(run([python, '-c', 'import transformer_engine']).stderr).toBe('')
    expect(run([python, '-m', 'pip', 'install', '-U', ...offline(), 'piq']).status).toBe(0)
    expect(run([python, '-c', 'import transformer_engine']).stderr).toContain(`undefined symbol: ${CHECK}ib`)

    const plan = await world.plan({ install: [{ spec: 'piq>=0.8' }], imports: ['transformer_engine'] })
    expect(plan.changes).toEqual([])
    expect(plan.problems).toMatchObject([
      {
        code: 'install_blocked',
        subject: 'torch',
        message:
          'torch 2.9.1+cu128 → 2.10.0+cu130 because piq 0.8.0 requires torch>=2.10 (python.install piq>=0.8); torch is protected',
      },
    ])
    await expect(preparePython(plan, world.context)).rejects.toMatchObject({ code: 'install_blocked' })

    const alone = { install: [{ spec: 'piq>=0.8', no_deps: true }], imports: ['piq', 'transformer_engine'] }
    const ready = await preparePython(await world.plan(alone), world.context)
    expect(ready.changes).toEqual([{ name: 'piq', from: '0.7.1', to: '0.8.0' }])
    const both = 'import piq, transformer_engine; print(piq.__version__)'
    expect(run([ready.interpreter, '-c', both], ready.environment).stdout).toBe('0.8.0\n')
  })

  test('B1: an extension for another torch is refused before anything changes, with the symbol, and again when it gets in by another way', async () => {
    extension('engine', '1.0', 'jb')
    const plan = await world.plan({ install: [{ spec: 'engine' }], imports: ['engine'] })
    expect(plan.problems).toEqual([])
    const told = world.events.length
    await expect(preparePython(plan, world.context)).rejects.toMatchObject({
      code: 'install_abi_conflict',
      message: expect.stringMatching(
        /engine\/core.*c10_cuda_check_implementation.*libc10_cuda\.so has/,
      ) as string,
    })
    expect(world.events.slice(told).map(({ type }) => type)).not.toContain('python.rolled-back')

    const env = world.digest(join(plan.root, 'env'))
    const pip = ['-m', 'pip', 'install', '--no-deps', ...offline(), 'engine']
    const script = `import subprocess, sys\nsubprocess.check_call([sys.executable, *${JSON.stringify(pip)}])\n`
    file('custom_nodes/pack/install.py', script)
    const node = { git: 'https://example.com/pack.git', ref: 'a'.repeat(40), optional: false }
    const [problem] = await runNodeScripts([node], {
      ...world.context,
      plan,
      nodesFolder: join(world.folder, 'custom_nodes'),
    })
    expect(problem).toMatchObject({ code: 'custom_node_failed', subject: 'pack' })
    expect(problem?.message).toContain(`it lacks ${CHECK}jb`)
    expect(world.digest(join(plan.root, 'env'))).toBe(env)
  })

  test('B2: looking and planning change nothing, neither in the image nor in the overlay', async () => {
    await preparePython(await world.plan({ install: [{ spec: 'einops==0.7.0' }] }), world.context)
    const state = world.digest(world.context.folder)
    const { fingerprint } = await checkPython(world.request(), world.context)
    // Something to install, something to refuse and explain: everything that a plan can start.
    await world.plan({ install: [{ spec: 'nodea' }, { spec: 'torch>=2.10' }, { spec: 'piq>=0.8' }] })
    expect((await checkPython(world.request(), world.context)).fingerprint).toBe(fingerprint)
    expect(world.digest(world.context.folder)).toBe(state)
  })

  test('B5: a module that stage two imports is found missing now, by the Python and in the environment that it will have', async () => {
    wheel('natsort', '8.4.0', { 'natsort/__init__.py': 'natsorted = sorted\n' })
    const stage = file('stage2.py', 'from natsort import natsorted\nprint(natsorted([2, 1]))\n')
    const wishes = { imports: ['natsort'] }
    // What the agent itself could import is no proof for the process.
    const elsewhere = join(file('elsewhere/natsort/__init__.py', ''), '../..')
    const environment = { ...world.context.environment, PYTHONPATH: elsewhere }
    const bare = await world.plan(wishes, { environment })
    await expect(preparePython(bare, { ...world.context, environment })).rejects.toMatchObject({
      code: 'import_failed',
      message: "import natsort: ModuleNotFoundError: No module named 'natsort'",
    })
    const later = run([bare.interpreter, stage], bare.environment)
    expect(later.stderr).toContain("No module named 'natsort'")

    const ready = await preparePython(
      await world.plan({ ...wishes, install: [{ spec: 'natsort==8.4.0' }] }),
      world.context,
    )
    expect(run([ready.interpreter, stage], ready.environment).stdout).toBe('[1, 2]\n')
  })

  test('B5: an install after which a required module does not import is taken back', async () => {
    wheel('node', '1.0', { 'node/__init__.py': 'import nosuchmodule\n' })
    const plan = await world.plan({ install: [{ spec: 'node' }], imports: ['node'] })
    await expect(preparePython(plan, world.context)).rejects.toMatchObject({
      code: 'import_failed',
      message: "import node: ModuleNotFoundError: No module named 'nosuchmodule'",
    })
    expect((await world.plan({ install: [{ spec: 'node' }] })).changes).toHaveLength(1)
  })
})
