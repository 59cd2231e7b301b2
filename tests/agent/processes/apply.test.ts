import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  forever,
  livingProcesses,
  makeHome,
  planCommand,
  readAll,
  shimPid,
  startRoom,
  untilState,
} from './kit.ts'

const signal = forever()

const freePort = async (): Promise<number> => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

test('an unchanged process is kept, a changed one restarted, one that left the plan stopped', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  const service = (name: string, level: string) =>
    planCommand(name, ['ticker'], { restart: 'always', env: { LEVEL: level } })
  await processes.apply([service('same', '1'), service('changed', '1'), service('gone', '1')], { signal })
  const pids = new Map(processes.rows().map((row) => [row.name, row.pid]))
  const next = [service('same', '1'), service('changed', '2')]
  expect(processes.preview(next)).toEqual([
    { name: 'same', action: 'keep' },
    { name: 'changed', action: 'restart' },
    { name: 'gone', action: 'stop' },
  ])
  expect(await processes.apply(next, { signal })).toMatchObject([
    { name: 'same', action: 'kept', state: 'running' },
    { name: 'changed', action: 'restarted', state: 'running' },
    { name: 'gone', action: 'stopped' },
  ])
  expect(processes.rows().map(({ name }) => name)).toEqual(['same', 'changed'])
  expect(processes.row('same').pid).toBe(pids.get('same'))
  expect(processes.row('changed').pid).not.toBe(pids.get('changed'))
  expect(livingProcesses(home, 'gone')).toEqual([])
  expect(await readAll(processes, 'gone')).toMatch(/^0\r\n/)
  expect(() => processes.logs('../jobs/gone', { signal })).toThrow('there is no process')
})

test('a job that ended with 0 is never run again for the same specification, and one that failed is', async () => {
  const home = makeHome()
  const plan = (more = {}) => [
    planCommand('good', ['bash', '-c', 'echo ran'], more),
    planCommand('bad', ['bash', '-c', 'echo ran; exit 4'], more),
  ]
  const first = startRoom(home)
  expect(await first.processes.apply(plan(), { signal })).toMatchObject([
    { state: 'exited', action: 'started', problem: null },
    {
      state: 'failed',
      action: 'started',
      problem: { code: 'process_failed', message: 'bad ended with status 4\nran' },
    },
  ])
  await first.leave()
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(await processes.apply(plan(), { signal })).toMatchObject([
    { state: 'exited', action: 'kept' },
    { state: 'failed', action: 'started' },
  ])
  // As the manifest has them, not by the alphabet.
  expect(processes.rows().map(({ name }) => name)).toEqual(['good', 'bad'])
  expect(await readAll(processes, 'good')).toBe('ran\r\n')
  expect(await readAll(processes, 'bad')).toBe('ran\r\nran\r\n')
  await processes.apply(plan({ env: { AGAIN: 'yes' } }), { signal })
  expect(await readAll(processes, 'good')).toBe('ran\r\nran\r\n')
})

test('at the agent’s own start a job that failed or was lost is left as it is; who applies the manifest runs it again', async () => {
  const home = makeHome()
  const plan = [
    planCommand('failed', ['bash', '-c', 'echo ran; exit 4']),
    planCommand('lost', ['bash', '-c', 'echo ran; sleep 1000']),
    planCommand('service', ['bash', '-c', 'echo ran; sleep 1000'], { restart: 'always' }),
  ]
  const first = startRoom(home)
  await first.processes.apply(plan, { signal })
  await first.leave()
  for (const name of ['lost', 'service']) process.kill(shimPid(home, name), 'SIGKILL')
  const { processes } = startRoom(home)
  await processes.adopt({ signal })
  expect(await processes.apply(plan, { signal, atBoot: true })).toMatchObject([
    { state: 'failed', action: 'kept', problem: { code: 'process_failed' } },
    { state: 'lost', action: 'kept', problem: { code: 'process_lost' } },
    { state: 'running', problem: null },
  ])
  expect(await readAll(processes, 'failed')).toBe('ran\r\n')
  expect(await readAll(processes, 'lost')).toBe('ran\r\n')
  expect(await processes.apply(plan, { signal })).toMatchObject([
    { state: 'failed', action: 'started' },
    { state: 'running', action: 'started' },
    { state: 'running', action: 'kept' },
  ])
})

test('a problem quotes what this attempt printed, not the one before it', async () => {
  const { processes } = startRoom(makeHome())
  const failing = (text: string) => [planCommand('job', ['bash', '-c', `${text} exit 4`])]
  await processes.apply(failing('echo the old cause;'), { signal })
  const [outcome] = await processes.apply(failing(''), { signal })
  expect(outcome?.problem?.message).toBe('job ended with status 4')
})

test('a problem quotes the output without the secrets in it', async () => {
  const { processes } = startRoom(makeHome(), { redact: (text) => text.replaceAll('hunter2', '[TOKEN]') })
  const [outcome] = await processes.apply([planCommand('job', ['bash', '-c', 'echo my hunter2; exit 1'])], {
    signal,
  })
  expect(outcome?.problem?.message).toBe('job ended with status 1\nmy [TOKEN]')
})

test('a process starts when the one it depends on has ended with 0 or is ready', async () => {
  const { processes } = startRoom(makeHome())
  const folder = makeHome()
  const plan = [
    planCommand('last', ['bash', '-c', 'cat made && echo served > out'], {
      working_dir: folder,
      depends_on: ['prepare', 'server'],
    }),
    planCommand('prepare', ['bash', '-c', 'sleep 1.5; echo prepared > made'], { working_dir: folder }),
    planCommand('server', ['bash', '-c', 'sleep 0.5; echo up; sleep 1000'], {
      restart: 'always',
      ready: { log: '^up$' },
    }),
  ]
  const applied = processes.apply(plan, { signal })
  await untilState(processes, 'last', 'waiting')
  const outcomes = await applied
  expect(outcomes.map(({ name, state }) => [name, state])).toEqual([
    ['last', 'exited'],
    ['prepare', 'exited'],
    ['server', 'ready'],
  ])
  expect(await readAll(processes, 'last')).toBe('prepared\r\n')
})

test('a failed dependency, an unknown one and a circle fail the process and name the cause', async () => {
  const { processes } = startRoom(makeHome())
  const plan = [
    planCommand('prepare', ['bash', '-c', 'exit 1']),
    planCommand('after', ['ticker'], { depends_on: ['prepare'] }),
    planCommand('lonely', ['ticker'], { depends_on: ['nobody'] }),
    planCommand('egg', ['ticker'], { depends_on: ['hen'] }),
    planCommand('hen', ['ticker'], { depends_on: ['egg'] }),
  ]
  const outcomes = await processes.apply(plan, { signal })
  expect(outcomes.map(({ state }) => state)).toEqual(plan.map(() => 'failed'))
  expect(outcomes[1]?.problem).toMatchObject({
    message: 'after was not started, because prepare, which it depends on, is failed',
    // Its own output is empty: the cause stands in the other's.
    hint: 'Correct prepare, then apply again: agentctl logs prepare.',
  })
  expect(outcomes[2]?.problem?.message).toBe('lonely depends on nobody, and there is no such process')
  expect(outcomes[3]?.problem?.message).toContain('egg depends on itself')
})

test('readiness is an answer over http, an open port or a line of the output, and only then', async () => {
  const { processes } = startRoom(makeHome())
  const [web, open] = [await freePort(), await freePort()]
  const page = (port: number) => ['web-page', process.execPath, String(port), '1500']
  const plan = [
    planCommand('http', page(web), { restart: 'always', ready: { http: `http://127.0.0.1:${web}/x` } }),
    planCommand('port', page(open), { restart: 'always', ready: { port: open } }),
    planCommand(
      'log',
      ['bash', '-c', 'echo not yet; sleep 1.5; printf "it is \\e[1mready\\e[0m "; sleep 1000'],
      {
        ready: { log: 'it is ready' },
      },
    ),
  ]
  const applied = processes.apply(plan, { signal })
  await Promise.all(plan.map(({ name }) => untilState(processes, name, 'starting')))
  expect((await applied).map(({ state, problem }) => [state, problem])).toEqual(
    plan.map(() => ['ready', null]),
  )
  expect(processes.row('http').url).toBe(`http://127.0.0.1:${web}/`)
})

test('a pattern that takes for ever on some line is given up, and the agent goes on', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  const command = ['bash', '-c', `printf '%0.sa' $(seq 40); echo '!'; sleep 1000`]
  const plan = [planCommand('evil', command, { ready: { log: '^(a+)+$' } })]
  const [outcome] = await processes.apply(plan, { signal })
  expect(outcome).toMatchObject({
    state: 'running',
    problem: { code: 'pattern_too_slow', severity: 'error' },
  })
  expect(await processes.stop('evil', { signal })).toBe('stopped')
})

test('a process that is not ready in time fails the apply, goes on, and may still become ready', async () => {
  const { processes } = startRoom(makeHome())
  const command = ['bash', '-c', 'sleep 3; echo up; sleep 1000']
  const plan = [planCommand('slow', command, { restart: 'always', ready: { log: '^up', within: '1s' } })]
  const [outcome] = await processes.apply(plan, { signal })
  expect(outcome).toMatchObject({
    state: 'running',
    problem: { code: 'process_not_ready', severity: 'error' },
  })
  await untilState(processes, 'slow', 'ready')
  expect(processes.row('slow').problem).toBeNull()
})

test('what cannot be started is a problem with a name, and an unfinished apply leaves nothing waiting', async () => {
  const { processes } = startRoom(makeHome())
  const folder = makeHome()
  writeFileSync(join(folder, 'not-executable'), '')
  const outcomes = await processes.apply(
    [
      planCommand('program', ['no-such-program']),
      planCommand('file', ['./not-executable'], { working_dir: folder }),
      planCommand('folder', ['ticker'], { working_dir: '/no/such/folder' }),
      planCommand('user', ['ticker'], { user: 'nobody-like-this' }),
    ],
    { signal },
  )
  expect(outcomes.map(({ problem }) => problem?.code)).toEqual([
    'program_missing',
    'program_missing',
    'working_dir_missing',
    'spawn_failed',
  ])
  await expect(processes.start('program', { signal })).rejects.toMatchObject({ code: 'program_missing' })

  const cancel = new AbortController()
  const plan = [
    planCommand('first', ['ticker']),
    planCommand('second', ['ticker'], { depends_on: ['first'] }),
  ]
  const applied = processes.apply(plan, { signal: cancel.signal })
  await untilState(processes, 'first', 'running')
  cancel.abort(new Error('cancelled by hand'))
  await expect(applied).rejects.toThrow('cancelled by hand')
  expect(processes.rows().map(({ state }) => state)).toEqual(['running', 'stopped'])
})

test.skipIf(process.getuid?.() !== 0)(
  'a process runs as the user it names (skipped: only root may do that)',
  async () => {
    const { processes } = startRoom(makeHome())
    const command = ['bash', '-c', 'id -un; id -G; echo $HOME; echo typed > /dev/tty']
    await processes.apply([planCommand('job', command, { user: 'nobody' })], { signal })
    await untilState(processes, 'job', 'exited', 'failed')
    const [user, groups, home, typed] = (await readAll(processes, 'job')).split('\r\n')
    expect([user, typed]).toEqual(['nobody', 'typed'])
    expect(groups?.split(' ')).not.toContain('0')
    expect(home).not.toBe('/root')
  },
)
