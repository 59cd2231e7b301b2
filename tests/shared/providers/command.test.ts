import { expect, test } from 'vitest'
import { createCommandControl } from '../../../shared/providers/command.ts'
import { stopConfirmed } from '../../../shared/providers/confirm.ts'
import { createManualClock } from '../../support/providers/manual-clock.ts'

const { signal } = new AbortController()

test('C1: a stop command that ends well and stops nothing is never taken for a stop', async () => {
  const clock = createManualClock()
  const ran: string[] = []
  const control = createCommandControl(
    { stop: ['echo', 'stopping'], check: ['is-stopped'] },
    {
      run: ([program = '']) => {
        ran.push(program)
        return Promise.resolve(program === 'echo' ? 0 : 1)
      },
    },
  )
  await expect(
    stopConfirmed(control, { id: 'this box' }, { signal, clock, withinMs: 60_000 }),
  ).rejects.toMatchObject({
    code: 'stop_unconfirmed',
    message: 'command instance this box is not stopped: it is running',
  })
  expect(ran.filter((program) => program === 'echo').length).toBeGreaterThan(1)
})

test('a command whose check agrees has stopped the box; without a check nothing is known', async () => {
  const clock = createManualClock()
  const run = () => Promise.resolve(0)
  const checked = createCommandControl({ stop: ['off'], check: ['is-off'] }, { run })
  expect(await stopConfirmed(checked, { id: 'box' }, { signal, clock, withinMs: null })).toMatchObject({
    state: 'stopped',
  })
  const unchecked = createCommandControl({ stop: ['off'], check: undefined }, { run })
  expect(await unchecked.show('box', { signal })).toMatchObject({ state: 'unknown' })
})
