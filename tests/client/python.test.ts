import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AgentError, ERROR_CODES, EXIT } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import { runAgentctl } from '../support/agentctl.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { startFixedBox } from '../support/fixed-box.ts'

let box: FixedBox
beforeEach(async () => {
  box = await startFixedBox()
})
afterEach(() => box.close())
const agentctl = (...args: string[]) => runAgentctl(args, { env: box.env, cwd: box.home })

const blocked: Problem = {
  code: 'install_blocked',
  severity: 'error',
  subject: 'torch',
  message: 'torch 2.9.1+cu128 → 2.10.0 because nodeb 1.0 requires torch>=2.10; torch is protected',
  hint: ERROR_CODES.install_blocked.hint,
}

describe('agentctl python', () => {
  test('plan shows the change as a table', async () => {
    const { code: status, stdout } = await agentctl('python', 'plan', 'natsort', 'einops')
    expect([status, stdout]).toEqual([EXIT.done, 'PACKAGE  FROM  TO\nnatsort  -     8.4.0\n'])
    expect(box.requests.at(-1)).toMatchObject({ method: 'POST', url: '/v1/python/plan' })
  })

  test('plan says why it would be refused, and exits with 3', async () => {
    box.records.python.plan = { changes: [], problems: [blocked] }
    const people = await agentctl('python', 'plan', 'nodeb')
    expect(people.code).toBe(EXIT.refused)
    expect(people.stderr).toContain('because nodeb 1.0 requires torch>=2.10')
    const programs = await agentctl('--json', 'python', 'plan', 'nodeb')
    expect(programs.code).toBe(EXIT.refused)
    expect(JSON.parse(programs.stdout)).toEqual({ changes: [], problems: [blocked] })
  })

  test('a requirement that is empty is an error of the command line', async () => {
    for (const command of ['plan', 'install']) {
      const { code: status, stderr } = await agentctl('python', command, 'natsort', ' ')
      expect([status, stderr]).toEqual([
        EXIT.usage,
        'error: a requirement is empty\ntry: Write one like natsort==8.4.0.\n',
      ])
    }
    expect(box.requests).toEqual([])
  })

  test('install says how to take it back', async () => {
    const { code: status, stdout } = await agentctl('python', 'install', 'natsort')
    expect(status).toBe(EXIT.done)
    expect(stdout).toContain('agentctl python rollback aaaaaaaaaaaa')
    box.records.python.installs = []
    expect((await agentctl('python', 'install', 'natsort')).stdout).toBe('everything was there already\n')
  })

  test.each([
    ['busy', EXIT.busy],
    ['plan_has_errors', EXIT.refused],
    ['install_abi_conflict', EXIT.refused],
    ['import_failed', EXIT.failed],
  ] as const)('install that fails with %s exits with %d', async (code, exit) => {
    box.records.refusal = new AgentError(code, 'it did not work', { problems: [blocked] })
    const { code: status, stderr } = await agentctl('python', 'install', 'nodeb')
    expect(status).toBe(exit)
    expect(stderr).toContain('error: it did not work')
  })

  test('history shows what can be taken back, and rollback takes it', async () => {
    expect((await agentctl('python', 'history')).stdout).toContain(
      'aaaaaaaaaaaa  committed  2026-11-21 10:00:00Z  yes       natsort 8.4.0',
    )
    expect((await agentctl('python', 'rollback')).stdout).toContain('taken back: aaaaaaaaaaaa')
    expect((await agentctl('python', 'rollback', 'bbbbbbbbbbbb')).code).toBe(EXIT.notFound)
  })

  test('check exits with 1 only for errors', async () => {
    const fine = await agentctl('python', 'check')
    expect(fine.code).toBe(EXIT.done)
    expect(fine.stdout).toContain('70 packages, 306 shared objects')
    box.records.python.check = {
      ...box.records.python.check,
      problems: [{ ...blocked, severity: 'warning' }],
    }
    expect((await agentctl('python', 'check')).code).toBe(EXIT.done)
    box.records.python.check = { ...box.records.python.check, problems: [blocked] }
    expect((await agentctl('python', 'check')).code).toBe(EXIT.failed)
  })

  test('plan and install need something to install', async () => {
    expect((await agentctl('python', 'plan')).code).toBe(EXIT.usage)
    expect((await agentctl('python', 'install')).code).toBe(EXIT.usage)
  })
})
