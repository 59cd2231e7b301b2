import { expect, test } from 'vitest'
import { makeStatus } from '../../../agent/apply/status.ts'
import type { Problem } from '../../../shared/contract/errors.ts'
import type { BudgetRow, ProcessRow, StatusRecord } from '../../../shared/contract/records.ts'
import { aStatus } from '../../support/fixed-records.ts'

const statusWith = (change: Partial<ProcessRow>): StatusRecord => {
  const { agent, host, run, downloads, processes, sync } = aStatus()
  return makeStatus({
    ...{ agent, host, manifest: undefined, run: run ?? undefined, downloads, sync },
    processes: processes.map((row) => (row.name === 'comfyui' ? { ...row, ...change } : row)),
    budget: aBudget,
    isLate: () => false,
    problems: [],
  })
}

const aBudget: BudgetRow = {
  state: 'ok',
  spentUsd: null,
  limitUsd: null,
  hoursUsed: 0,
  limitHours: null,
  rateUsdPerHour: null,
  stopAt: null,
  onLimit: null,
  idle: null,
  problem: null,
}

const notReady = (severity: Problem['severity']): Problem => ({
  code: 'process_not_ready',
  severity,
  subject: 'comfyui',
  message: 'comfyui was not ready within 60 s',
  hint: 'Look.',
})

test('a process that runs and was not proven ready makes the box unhealthy, long after its run was ready', () => {
  expect(statusWith({})).toMatchObject({ healthy: true, problems: [] })
  const late = notReady('error')
  expect(statusWith({ state: 'running', problem: late })).toMatchObject({ healthy: false, problems: [late] })
})

test('a warning beside a process that does its work leaves the box healthy', () => {
  const warning = notReady('warning')
  expect(statusWith({ problem: warning })).toMatchObject({ healthy: true, problems: [warning] })
})
