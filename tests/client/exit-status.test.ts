import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ERROR_CODES, EXIT, AgentError } from '../../shared/contract/errors.ts'
import type { ErrorCode } from '../../shared/contract/errors.ts'
import { runAgentctl } from '../support/agentctl.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { startFixedBox } from '../support/fixed-box.ts'
import { aProblem, aStatus } from '../support/fixed-records.ts'

/** The first code of each exit status in the table. */
const ONE_CODE_PER_STATUS = Object.entries(ERROR_CODES)
  .filter(([, { exit }], index, all) => all.findIndex(([, other]) => other.exit === exit) === index)
  .map(([name]) => ({ name }))

let box: FixedBox
beforeEach(async () => {
  box = await startFixedBox()
})
afterEach(() => box.close())

const agentctl = (...args: string[]) => runAgentctl(args, { env: box.env, cwd: box.home })

const writeManifest = (text = 'version: 1\nname: demo\n'): string => {
  const file = join(box.home, 'demo.yaml')
  writeFileSync(file, text)
  return file
}

describe('exit statuses and errors', () => {
  test.each(ONE_CODE_PER_STATUS)(
    'an agent that answers $name gives its exit status and two lines',
    async ({ name }) => {
      const code = name as ErrorCode
      box.records.refusal = new AgentError(code, `it is ${name}`, { hint: 'Do this.' })
      const ended = await agentctl('status')
      expect(ended.code).toBe(ERROR_CODES[code].exit)
      expect(ended.stderr).toBe(`error: it is ${name}\ntry: Do this.\n`)
      expect(ended.stdout).toBe('')
    },
  )

  test('with --json the error is one document on standard output, with its problems', async () => {
    box.records.refusal = new AgentError('plan_has_errors', 'one error', { problems: [aProblem({})] })
    const { code, stdout, stderr } = await agentctl('apply', writeManifest(), '--json')
    expect({ code, stderr }).toEqual({ code: EXIT.refused, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: 'plan_has_errors',
        message: 'one error',
        hint: ERROR_CODES.plan_has_errors.hint,
        problems: [aProblem({})],
      },
    })
  })

  test('a box that is not there is 5, with what to do', async () => {
    await box.stop()
    const { code, stderr } = await agentctl('ps')
    expect(code).toBe(EXIT.unreachable)
    expect(stderr).toMatch(/^error: cannot reach the agent at unix:.*\ntry: .*doctor\.\n$/)
  })

  test('a wrong token is 4', async () => {
    const env = { ...box.env, AGENTCTL_TOKEN: 'wrong.token' }
    const { code, stderr } = await runAgentctl(['status'], { env })
    expect(code).toBe(EXIT.notAuthenticated)
    expect(stderr).toMatch(/^error: .*\ntry: .*\n$/)
  })

  test('an agent that does not answer within --timeout is 7', async () => {
    box.intercept = () => true
    const { code, stderr } = await agentctl('status', '--timeout', '300ms')
    expect(code).toBe(EXIT.deadline)
    expect(stderr).toContain('did not answer within 0.3 s')
  })

  test('a process, a run and a context that do not exist are 6', async () => {
    expect((await agentctl('start', 'nothing')).code).toBe(EXIT.notFound)
    expect((await agentctl('run', 'show', 'nothing')).code).toBe(EXIT.notFound)
    expect((await agentctl('context', 'use', 'nothing')).code).toBe(EXIT.notFound)
  })

  test.each([
    { name: 'no command', args: [] },
    { name: 'an unknown command', args: ['stats'] },
    { name: 'an unknown option', args: ['status', '--colour'] },
    { name: 'a missing argument', args: ['logs'] },
    { name: 'an argument too many', args: ['ps', 'comfyui'] },
    { name: 'a family without its member', args: ['token'] },
    { name: 'a duration that is none', args: ['status', '--timeout', 'soon'] },
    { name: 'two names for a token', args: ['token', 'create', 'me', '--name', 'you'] },
    { name: 'a scope that is none', args: ['token', 'create', 'me', '--scope', 'root'] },
    { name: 'a manifest that is not there', args: ['apply', 'nowhere.yaml'] },
    { name: 'an address that is none', args: ['pair', 'ftp://box'] },
  ])('$name is a usage error: 2, and two lines', async ({ args }) => {
    const { code, stdout, stderr } = await agentctl(...args)
    expect({ code, stdout }).toEqual({ code: EXIT.usage, stdout: '' })
    expect(stderr).toMatch(/^error: .+\ntry: .+\n$/)
    const json = await agentctl(...args, '--json')
    expect(json.code).toBe(EXIT.usage)
    expect((JSON.parse(json.stdout) as { error: { code: string } }).error.code).toBe('usage')
    expect(json.stderr).toBe('')
  })

  test('an answer that is not the agent’s is no success', async () => {
    box.intercept = (_, response) => {
      response.end('<html>')
      return true
    }
    const { code, stderr } = await agentctl('ps')
    expect(code).toBe(EXIT.unreachable)
    expect(stderr).toContain('not JSON')
  })

  test('status --check exits with 1 unless everything is healthy', async () => {
    expect((await agentctl('status', '--check')).code).toBe(EXIT.done)
    box.records.status = { ...aStatus(), healthy: false }
    expect((await agentctl('status', '--check')).code).toBe(EXIT.failed)
    expect((await agentctl('status')).code).toBe(EXIT.done)
  })

  test('wait exits as the process ended', async () => {
    expect((await agentctl('wait', 'prepare')).code).toBe(EXIT.done)
    box.records.processes = box.records.processes.map((row) => ({ ...row, state: 'failed', exitCode: 3 }))
    expect((await agentctl('wait', 'prepare')).code).toBe(EXIT.failed)
    box.records.processes = box.records.processes.map((row) => ({ ...row, startedAt: null, exitCode: null }))
    const never = await agentctl('wait', 'prepare')
    expect(never).toMatchObject({ code: EXIT.failed, stdout: 'prepare: failed, it was never started\n' })
  })
})
