import { afterEach, beforeEach, expect, test } from 'vitest'
import { createRuns } from '../../../agent/apply/runs.ts'
import { systemClock } from '../../../agent/platform/clock.ts'
import type { AgentEvent } from '../../../shared/contract/events.ts'
import { RUN_MOVES, RUN_STATES } from '../../../shared/contract/states.ts'
import type { RunState } from '../../../shared/contract/states.ts'
import { openTestDatabase } from '../../support/open-test-database.ts'

let opened: ReturnType<typeof openTestDatabase>
let events: AgentEvent[]
beforeEach(() => {
  opened = openTestDatabase()
  events = []
})
afterEach(() => opened.close())

const makeRuns = () => {
  let next = 0
  return createRuns({
    db: opened.db,
    clock: systemClock,
    newId: () => `run-${(next += 1)}`,
    report: (event) => events.push(event),
  })
}
const manifest = (name: string) => ({
  digest: `digest-${name}`,
  name,
  text: 'version: 1',
  file: `${name}.yaml`,
})

/** Moves that lead from planning to a state. */
const WAY: Readonly<Record<RunState, readonly RunState[]>> = {
  planning: [],
  provisioning: ['provisioning'],
  starting: ['provisioning', 'starting'],
  ready: ['provisioning', 'starting', 'ready'],
  degraded: ['provisioning', 'starting', 'degraded'],
  failed: ['failed'],
  cancelled: ['cancelled'],
}

const moves = RUN_STATES.flatMap((from) =>
  RUN_STATES.map((to) => ({ from, to, legal: RUN_MOVES[from].includes(to) })),
)

test.each(moves)('a run in $from moving to $to is legal: $legal', ({ from, to, legal }) => {
  const runs = makeRuns()
  const { id } = runs.create(manifest('a'))
  for (const state of WAY[from]) runs.move(id, state)
  if (legal) expect(runs.move(id, to).state).toBe(to)
  else expect(() => runs.move(id, to)).toThrow(`run ${id} cannot go from ${from} to ${to}`)
})

test('a run that ended keeps its end, its problems and its place in the list', () => {
  const runs = makeRuns()
  const { id } = runs.create(manifest('a'))
  const problem = { code: 'gated', severity: 'error', subject: 'x', message: 'm', hint: 'h' } as const
  runs.move(id, 'failed', { problems: [problem] })
  expect(runs.get(id)).toMatchObject({ state: 'failed', problems: [problem] })
  expect(runs.get(id)?.endedAt).not.toBeNull()
  expect(runs.list(10).map((run) => run.id)).toEqual([id])
})

test('a refused run stays in the list, but the box stands for the run before', () => {
  const runs = makeRuns()
  const first = runs.create(manifest('a'))
  for (const state of WAY.ready) runs.move(first.id, state)
  const refused = runs.create(manifest('b'))
  runs.move(refused.id, 'failed', { refused: true })
  expect(runs.current()?.id).toBe(first.id)
  expect(runs.manifest()?.name).toBe('a')
  expect(runs.list(10)).toHaveLength(2)
})

test('a box whose only run was refused shows that run', () => {
  const runs = makeRuns()
  const refused = runs.create(manifest('a'))
  runs.move(refused.id, 'failed', { refused: true })
  expect(runs.current()?.id).toBe(refused.id)
})

test('every move is told as an event', () => {
  const runs = makeRuns()
  const { id } = runs.create(manifest('a'))
  runs.move(id, 'provisioning')
  expect(events.map((event) => event.type)).toEqual(['run.created', 'run.state'])
})
