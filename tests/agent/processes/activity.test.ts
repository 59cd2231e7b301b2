import { expect, test } from 'vitest'
import { judgeActivity } from '../../../agent/processes/activity.ts'
import { forever, makeHome, planCommand, startRoom, until } from './kit.ts'

type Facts = Parameters<typeof judgeActivity>[0]

const service: Facts = {
  record: { name: 'it', kind: 'command', state: 'running' },
  isAlive: true,
  spec: { restart: 'always' },
  queue: null,
  terminals: 0,
  webAgeMs: null,
}
const comfyui = { ...service, record: { name: 'it', kind: 'comfyui', state: 'ready' } } as const

test.each<{ what: string; facts: Facts; busy: boolean | 'unknown'; why: string }>([
  { what: 'a service', facts: service, busy: false, why: 'is a service' },
  { what: 'a job', facts: { ...service, spec: { restart: 'never' } }, busy: true, why: 'is a job that runs' },
  {
    what: 'a process that waits for another',
    facts: { ...service, isAlive: false, record: { ...service.record, state: 'waiting' } },
    busy: true,
    why: 'is waiting',
  },
  {
    what: 'a process that ended',
    facts: { ...service, isAlive: false, record: { ...service.record, state: 'failed' } },
    busy: false,
    why: 'is failed',
  },
  {
    what: 'a process that does not answer',
    facts: { ...service, record: { ...service.record, state: 'unresponsive' } },
    busy: 'unknown',
    why: 'is unresponsive',
  },
  {
    what: 'a terminal that somebody watches',
    facts: { ...service, terminals: 2 },
    busy: true,
    why: 'has 2 terminals attached',
  },
  {
    what: 'a page in use',
    facts: { ...service, webAgeMs: 1_000 },
    busy: true,
    why: 'has its web page in use',
  },
  {
    what: 'a page that was left',
    facts: { ...service, webAgeMs: 600_000 },
    busy: false,
    why: 'is a service',
  },
  {
    what: 'a ComfyUI that says nothing',
    facts: comfyui,
    busy: 'unknown',
    why: 'does not say what is in its queue',
  },
  {
    what: 'a ComfyUI with jobs',
    facts: { ...comfyui, queue: { remaining: 3, progress: null } },
    busy: true,
    why: 'has 3 jobs in its queue',
  },
  {
    what: 'a ComfyUI without jobs',
    facts: { ...comfyui, queue: { remaining: 0, progress: null } },
    busy: false,
    why: 'has an empty queue',
  },
])('$what: busy is $busy, because it $why', ({ facts, busy, why }) => {
  expect(judgeActivity(facts)).toEqual({ name: 'it', busy, why })
})

test('a terminal counts for as long as it is attached, a page from its last use on', async () => {
  const { processes } = startRoom(makeHome())
  const signal = forever()
  await processes.apply([planCommand('it', ['ticker'], { restart: 'always' })], { signal })
  expect(processes.activity()).toEqual([{ name: 'it', busy: false, why: 'is a service' }])
  const terminal = await processes.terminal('it', { signal })
  expect(processes.activity()).toEqual([{ name: 'it', busy: true, why: 'has a terminal attached' }])
  terminal.close()
  await until(() => processes.activity()[0]?.busy === false)
  processes.noteWebUse('it')
  expect(processes.activity()).toEqual([{ name: 'it', busy: true, why: 'has its web page in use' }])
})
