import { expect, test } from 'vitest'
import { planProcess } from '../../../agent/processes/planned-process.ts'
import type { AgentError } from '../../../shared/contract/errors.ts'
import { ProcessSpec } from '../../../shared/manifest/schema.ts'

const overlay = {
  interpreter: '/overlay/bin/python',
  binFolder: '/overlay/bin',
  environment: { HF_HOME: '/hf' },
}
const plan = (spec: Readonly<Record<string, unknown>>, context = overlay) =>
  planProcess('it', ProcessSpec.parse(spec), context)
const comfyui = { kind: 'comfyui', working_dir: '/workspace/ComfyUI' }
const command = (...argv: readonly string[]) => ({ kind: 'command', command: argv })

test('ComfyUI is started by the overlay on loopback, and is ready when it answers', () => {
  const planned = plan({ ...comfyui, port: 8200, args: ['--lowvram'] })
  expect(planned.argv).toEqual([
    '/overlay/bin/python',
    'main.py',
    '--listen',
    '127.0.0.1',
    '--port',
    '8200',
    '--lowvram',
  ])
  expect(planned).toMatchObject({
    flags: { choices: [{ oneOf: ['--disable-auto-launch'] }] },
    cwd: '/workspace/ComfyUI',
    url: 'http://127.0.0.1:8200/',
    readiness: { kind: 'http', url: 'http://127.0.0.1:8200/system_stats', withinMs: 600_000 },
  })
})

test.each([
  '--listen',
  '--listen=0.0.0.0',
  '--lis',
  '--enable-cors-header',
  '--enable-cors-header=*',
  '--enable-cors',
  '--port=80',
])('ComfyUI’s argument %s is refused', (arg) => {
  expect(() => plan({ ...comfyui, args: [arg] })).toThrow(`processes.it.args: ${arg}`)
})

test('python is the overlay’s; another program is left as it is', () => {
  expect(plan(command('python', 'a.py')).argv).toEqual(['/overlay/bin/python', 'a.py'])
  expect(plan(command('python3', 'a.py')).argv[0]).toBe('/overlay/bin/python')
  expect(plan(command('torchrun', 'python')).argv).toEqual(['torchrun', 'python'])
  expect(plan(command('python'), { ...overlay, interpreter: '' }).argv).toEqual([''])
})

test.each([
  'LD_PRELOAD',
  'LD_LIBRARY_PATH',
  'PYTHONBREAKPOINT',
  'PYTHONWARNINGS',
  'PERL5OPT',
  'PYTHONPATH',
  'PYTHONHOME',
  'PYTHONSTARTUP',
  'PYTHONINSPECT',
  'NODE_OPTIONS',
  'BASH_ENV',
  'ENV',
  'IFS',
  'GIT_SSH_COMMAND',
  'PIP_INDEX_URL',
  'BASH_FUNC_ls',
  'AGENTD_JOB',
])('T39: the variable %s is refused', (name) => {
  expect(() => plan({ ...command('true'), env: { [name]: 'x' } })).toThrow(
    expect.objectContaining({ code: 'invalid_manifest', message: expect.stringContaining(name) as string }),
  )
})

test('T39: an unsafe variable is taken where unsafe_env names it, one of the agent’s own never', () => {
  const spec = { ...command('true'), env: { LD_LIBRARY_PATH: '' }, unsafe_env: ['LD_LIBRARY_PATH'] }
  expect(plan(spec).environment).toMatchObject({ LD_LIBRARY_PATH: '' })
  expect(() => plan({ ...spec, env: { LD_PRELOAD: 'x' } })).toThrow('LD_PRELOAD is refused')
  const own = { ...command('true'), env: { AGENTD_JOB: 'x' }, unsafe_env: ['AGENTD_JOB'] }
  expect(() => plan(own)).toThrow('AGENTD_JOB is the agent')
  expect(plan({ ...command('true'), env: { PYTHONHASHSEED: '0' } }).environment).toHaveProperty(
    'PYTHONHASHSEED',
  )
})

test('the environment is a fixed base, the box’s variables and the declared ones, and nothing of the agent’s own', () => {
  process.env['SECRET_OF_THE_AGENT'] = 'x'
  const { environment } = plan({
    ...command('true'),
    env: { MODE: 'fast', HF_HOME: '/mine', PATH: '/opt/bin' },
  })
  delete process.env['SECRET_OF_THE_AGENT']
  expect(environment).toEqual({
    LANG: 'C.UTF-8',
    TZ: 'UTC',
    TERM: 'xterm-256color',
    PYTHONUNBUFFERED: '1',
    MODE: 'fast',
    HF_HOME: '/hf',
    PATH: '/overlay/bin:/opt/bin',
  })
})

test('the digest changes with all that decides how the process runs, and with nothing else', () => {
  const base = { ...command('serve', 'a'), env: { A: '1', B: '2' } }
  const { digest } = plan(base)
  expect(plan({ ...base, env: { B: '2', A: '1' } }).digest).toBe(digest)
  const others = [
    { ...base, command: ['serve', 'b'] },
    { ...base, env: { A: '1', B: '3' } },
    { ...base, working_dir: '/tmp' },
    { ...base, restart: 'always' },
    { ...base, user: 'comfy' },
    { ...base, stop: { signal: 'SIGTERM' } },
    { ...base, ready: { port: 6006 } },
  ].map((spec) => plan(spec).digest)
  expect(new Set([digest, ...others]).size).toBe(8)
})

test('where the agent was started from is no change of a process: another PATH of its own ends nothing', () => {
  const spec = ProcessSpec.parse(command('serve'))
  const from = (searchPath: string) =>
    planProcess('p', spec, { interpreter: null, binFolder: '/overlay/bin', environment: {}, searchPath })
  expect(from('/usr/bin').digest).toBe(from('/opt/node/bin:/usr/bin').digest)
  expect(from('/opt/x').environment['PATH']).toBe('/overlay/bin:/opt/x')
})

test('every variable that is refused is told at once', () => {
  const env = { LD_PRELOAD: 'x', BASH_ENV: 'x', FINE: 'x', AGENTD_JOB: 'x', NUL: 'a\0b' }
  const told = (): readonly string[] => {
    try {
      plan({ ...command('serve'), env })
      return []
    } catch (error) {
      return (error as AgentError).problems?.map(({ message }) => message) ?? []
    }
  }
  expect(told().map((message) => /env: (\w+) /.exec(message)?.[1])).toEqual([
    'LD_PRELOAD',
    'BASH_ENV',
    'AGENTD_JOB',
    'NUL',
  ])
})

test('what is kept on disk of a plan holds no value of the environment', () => {
  const { environment, ...stored } = plan({ ...command('true'), env: { TOKEN: 'hunter2-hunter2' } })
  expect(environment['TOKEN']).toBe('hunter2-hunter2')
  expect(JSON.stringify(stored)).not.toContain('hunter2')
})
