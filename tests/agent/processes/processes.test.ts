import { expect, test } from 'vitest'
import { forever, makeHome, planCommand, readAll, startRoom, untilState } from './kit.ts'

test('a job runs under a terminal, its output is kept, and its end is recorded', async () => {
  const { processes, events, problems } = startRoom(makeHome())
  const signal = forever()
  await processes.adopt({ signal })
  const plan = [
    planCommand('hello', ['bash', '-c', 'test -t 1 && echo "a terminal of $TERM"; sleep 1.5; exit 0']),
  ]
  const outcomes = await processes.apply(plan, { signal })
  expect(outcomes).toMatchObject([{ name: 'hello', action: 'started', state: 'running', problem: null }])
  await untilState(processes, 'hello', 'exited')
  expect(processes.row('hello')).toMatchObject({ exitCode: 0, signal: null, pid: null, problem: null })
  expect(await readAll(processes, 'hello')).toBe('a terminal of xterm-256color\r\n')
  expect(events.map(({ type }) => type)).toContain('process.exited')
  expect(problems).toEqual([])
})
