import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { runAgentctl } from '../support/agentctl.ts'
import type { FixedBox } from '../support/fixed-box.ts'
import { LOCAL_TOKEN, startFixedBox } from '../support/fixed-box.ts'
import { startHub } from '../support/hub/hub.ts'

let box: FixedBox
beforeEach(async () => {
  box = await startFixedBox()
})
afterEach(() => box.close())

const agentctl = (...args: string[]) => runAgentctl(args, { env: box.env, cwd: box.home })

describe('secrets', () => {
  test('secret set takes the value from standard input, and only names are ever shown', async () => {
    const set = await runAgentctl(['secret', 'set', 'HF_TOKEN'], { env: box.env, input: 'hf_value\n' })
    expect(set).toMatchObject({ code: 0, stderr: '' })
    const listed = await agentctl('secret', 'ls')
    expect(listed.stdout).toBe('HF_TOKEN\n')
    expect((await agentctl('secret', 'rm', 'HF_TOKEN')).code).toBe(0)
    expect((await agentctl('secret', 'ls', '--json')).stdout).toBe('{"secrets":[]}\n')
    expect(box.requests.map(({ url }) => url).join()).not.toContain('hf_value')
  })

  test('secret set without a value is a usage error', async () => {
    expect((await agentctl('secret', 'set', 'HF_TOKEN')).code).toBe(EXIT.usage)
  })
})

describe('contexts', () => {
  test('pair stores a context that is used from then on, readable by its user alone', async () => {
    const env = { XDG_CONFIG_HOME: join(box.home, 'config'), HOME: box.home }
    const paired = await runAgentctl(['pair', `unix:${box.socket}`, '--name', 'mine'], {
      env,
      input: `${LOCAL_TOKEN}\n`,
    })
    expect(paired).toMatchObject({ code: 0, stderr: '' })
    const file = join(box.home, 'config', 'gpu-agent', 'contexts.json')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect((await runAgentctl(['status'], { env })).code).toBe(0)
    const listed = await runAgentctl(['context', 'ls', '--json'], { env })
    expect(JSON.parse(listed.stdout)).toEqual({
      contexts: [{ name: 'mine', target: `unix:${box.socket}`, agentId: 'a1b2c3', current: true }],
    })
    expect(listed.stdout).not.toContain(LOCAL_TOKEN)
    expect((await runAgentctl(['context', 'rm', 'mine'], { env })).code).toBe(0)
    expect(readFileSync(file, 'utf8')).not.toContain(LOCAL_TOKEN)
    expect((await runAgentctl(['status', '--context', 'mine'], { env })).code).toBe(EXIT.notFound)
  })

  test('pair reads what agentd pair --json prints', async () => {
    const env = { XDG_CONFIG_HOME: join(box.home, 'config'), HOME: box.home }
    const input = JSON.stringify({ agentId: 'a1b2c3', token: LOCAL_TOKEN })
    const { code, stdout } = await runAgentctl(['pair', `unix:${box.socket}`], { env, input })
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'paired with gpu-7; commands are about gpu-7 now\n' })
  })

  test('pair with a wrong token stores nothing', async () => {
    const env = { XDG_CONFIG_HOME: join(box.home, 'config'), HOME: box.home }
    const { code } = await runAgentctl(['pair', `unix:${box.socket}`], { env, input: 'wrong.token' })
    expect(code).toBe(EXIT.notAuthenticated)
    expect((await runAgentctl(['context', 'ls', '--json'], { env })).stdout).toBe('{"contexts":[]}\n')
  })

  test('AGENTCTL_HOST and AGENTCTL_TOKEN say which box', async () => {
    const env = { HOME: '/nonexistent', AGENTCTL_HOST: `unix:${box.socket}`, AGENTCTL_TOKEN: LOCAL_TOKEN }
    expect((await runAgentctl(['ps'], { env })).code).toBe(0)
  })

  test('an https address without a pin is refused before anything is asked', async () => {
    const host = 'https://box:7000'
    const { code, stderr } = await runAgentctl(['ps'], { env: { ...box.env, AGENTCTL_HOST: host } })
    expect(code).toBe(EXIT.usage)
    expect(stderr).toBe(
      'error: https://box:7000: the pin of its certificate is not known here\ntry: Pair with it: agentctl pair https://box:7000 --pin PIN; or set AGENTCTL_PIN.\n',
    )
  })

  test('doctor names what is wrong with its repair and exits with 1', async () => {
    const hub = await startHub({ files: [] })
    onTestFinished(() => hub.close())
    const env = { ...box.env, HF_ENDPOINT: hub.url, CIVITAI_ENDPOINT: hub.civitaiUrl }
    expect((await runAgentctl(['doctor'], { env })).code).toBe(0)
    await box.stop()
    const { code, stdout } = await runAgentctl(['doctor', '--json'], { env })
    expect(code).toBe(EXIT.failed)
    const { checks } = JSON.parse(stdout) as { checks: { check: string; fix: string | null }[] }
    expect(checks.find(({ check }) => check === 'agent')?.fix).toContain('Start agentd')
    expect(checks.find(({ check }) => check === 'node')?.fix).toBeNull()
  })
})
