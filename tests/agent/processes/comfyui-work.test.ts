import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readConsole } from '../../../agent/processes/kinds/comfyui/read-console.ts'
import { planJobs } from '../../../agent/processes/planned-process.ts'
import type { ProcessesDeps } from '../../../agent/processes/process-table.ts'
import { ProcessSpec } from '../../../shared/manifest/schema.ts'
import { freePort, makeComfyUI } from '../../support/comfyui/stand-in.ts'
import { forever, makeHome, startRoom, until, untilState } from './kit.ts'

const signal = forever()

/** A ComfyUI that is ready, and a way to send it jobs as a program does, without a client id. */
const startComfyUI = async (
  spec: Readonly<Record<string, unknown>> = {},
  overrides: Partial<ProcessesDeps> = {},
) => {
  const home = makeHome()
  const port = await freePort()
  const folder = makeComfyUI(join(home, 'ComfyUI'))
  const room = startRoom(home, overrides)
  const plan = planJobs(
    'comfyui',
    ProcessSpec.parse({ kind: 'comfyui', working_dir: folder, port, ...spec }),
    { interpreter: null, binFolder: null, environment: {}, searchPath: process.env['PATH'] ?? '' },
  )
  expect(await room.processes.apply(plan, { signal })).toMatchObject([{ state: 'ready' }])
  const send = async (inputs: Readonly<Record<string, unknown>>, clientId?: string): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${port}/prompt`, {
      method: 'POST',
      body: JSON.stringify({
        prompt: { 1: { class_type: 'Steps', inputs } },
        ...(clientId === undefined ? {} : { client_id: clientId }),
      }),
    })
    expect(answer.status).toBe(200)
  }
  const queue = () => room.processes.row('comfyui').queue
  const fault = (faults: Readonly<Record<string, unknown>>): void =>
    writeFileSync(join(folder, 'faults.json'), JSON.stringify(faults))
  return { ...room, home, plan, send, queue, fault }
}

test.each([
  { who: 'a program', clientId: undefined },
  // The messages about its job go to that client alone, so its bar in the output is read instead.
  { who: 'a browser', clientId: 'a-tab' },
])('the row of a ComfyUI tells its queue and how far a job of $who has come', async ({ clientId }) => {
  const { processes, queue, send } = await startComfyUI()
  await until(() => queue() !== null)
  expect(queue()).toEqual({ remaining: 0, progress: null })
  expect(processes.activity()).toMatchObject([{ busy: false, why: 'has an empty queue' }])
  const job = { count: 20, seconds: 0.1 }
  await send(job, clientId)
  await send({ count: 1 }, clientId)
  await until(() => queue()?.remaining === 2 && (queue()?.progress?.done ?? 0) > 2)
  expect(queue()?.progress?.total).toBe(20)
  expect(processes.activity()).toMatchObject([{ busy: true, why: 'has 2 jobs in its queue' }])
  await until(() => queue()?.remaining === 0)
  expect(queue()?.progress).toBeNull()
})

test('a WebSocket that stays open and says nothing hides no job: the queue is asked for as well', async () => {
  const { queue, send, fault } = await startComfyUI()
  fault({ silent_socket: true })
  await until(() => queue() !== null)
  await send({ count: 1, seconds: 30 })
  await until(() => queue()?.remaining === 1)
})

test('a ComfyUI that makes no progress with an idle GPU is unresponsive until it goes on', async () => {
  const idle = { readGpuLoad: () => Promise.resolve([0]) }
  const { processes, send } = await startComfyUI({ stall_after: '1s' }, idle)
  await send({ count: 1, seconds: 3 })
  await untilState(processes, 'comfyui', 'unresponsive')
  expect(processes.row('comfyui').problem).toMatchObject({
    code: 'process_stalled',
    message: 'comfyui has 1 job in its queue and has made no progress for 1 s, and the GPU is idle',
  })
  expect(processes.activity()).toMatchObject([{ busy: 'unknown' }])
  await untilState(processes, 'comfyui', 'ready')
  expect(processes.row('comfyui')).toMatchObject({ problem: null, restarts: 0 })
})

test('a ComfyUI with an empty queue, and one whose GPU works, are not taken for hanging', async () => {
  let load = 0
  const { processes, events, send, queue } = await startComfyUI(
    { stall_after: '1s' },
    { readGpuLoad: () => Promise.resolve([load]) },
  )
  await until(() => queue() !== null)
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  load = 80
  await send({ count: 1, seconds: 2 })
  await until(() => queue()?.remaining === 1)
  await until(() => queue()?.remaining === 0)
  expect(processes.row('comfyui').state).toBe('ready')
  expect(events.filter(({ data }) => data?.['state'] === 'unresponsive')).toEqual([])
})

const FAULT = { count: 1, fault: 'an illegal memory access was encountered' }

test('after an error that leaves CUDA unusable a ComfyUI is started anew, and the cause is told', async () => {
  const { processes, send, events } = await startComfyUI()
  const { pid } = processes.row('comfyui')
  await send(FAULT)
  await untilState(processes, 'comfyui', 'waiting')
  expect(processes.row('comfyui').problem).toMatchObject({ code: 'cuda_fault', severity: 'warning' })
  expect(processes.row('comfyui').problem?.message).toMatch(
    /^comfyui met an error of CUDA \(an illegal memory access was encountered\), after which every job fails, so it was ended/,
  )
  await untilState(processes, 'comfyui', 'ready')
  expect(processes.row('comfyui')).toMatchObject({ restarts: 1, problem: null })
  expect(processes.row('comfyui').pid).not.toBe(pid)
  const ends = events.filter(({ type }) => type === 'process.exited')
  expect(ends).toMatchObject([{ data: { problem: expect.stringContaining('error of CUDA') as string } }])
})

test('an error of CUDA fails a ComfyUI that is not to be restarted, also when no agent saw it happen', async () => {
  const { send, home, leave, queue } = await startComfyUI({ restart: 'never' })
  await until(() => queue() !== null)
  await leave()
  await send(FAULT)
  const room = startRoom(home)
  await room.processes.adopt({ signal })
  await untilState(room.processes, 'comfyui', 'failed')
  expect(room.processes.row('comfyui')).toMatchObject({ problem: { code: 'cuda_fault', severity: 'error' } })
})

test('memory that ran out on the GPU, and what only looks like an error of CUDA, is none', () => {
  for (const line of [
    'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.',
    'RuntimeError: CUDA error: out of memory',
    'RuntimeError: CUDA error: invalid argument',
    'RuntimeError: CUDA error: no kernel image is available for execution on the device',
    'an illegal memory access was encountered by somebody else',
  ])
    expect(readConsole(line).fault).toBeNull()
  expect(readConsole('torch.AcceleratorError: CUDA error: device-side assert triggered\nx').fault).toBe(
    'device-side assert triggered',
  )
  expect(
    readConsole('RuntimeError: Triton Error [CUDA]: an illegal memory access was encountered').fault,
  ).toBe('an illegal memory access was encountered')
})

test('the last step of a bar is the progress', () => {
  const bar = '  5%|5         | 1/20 [00:00<00:04,  4.50it/s]\n 10%|#         | 2/20 [00:00<00:03]'
  expect(readConsole(bar).progress).toEqual({ done: 2, total: 20 })
  expect(readConsole('Loading 1/2 of it').progress).toBeNull()
})
