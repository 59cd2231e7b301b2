import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AgentProcess } from '../support/agent-process.ts'
import { makeHome, removeHome, runProgram, startAgent } from '../support/agent-process.ts'
import { AGENTCTL } from '../support/programs.ts'

let home: string
let agent: AgentProcess
beforeAll(async () => {
  home = makeHome()
  agent = await startAgent({ home })
})
afterAll(async () => {
  await agent.kill('SIGTERM')
  await removeHome(home)
})

test('agentctl status does not load node’s own fetch, which would take longer than the rest of it', async () => {
  const tell = join(home, 'tell.cjs')
  writeFileSync(tell, "process.on('exit', () => console.error(process.moduleLoadList.join('\\n')))")
  const argv = [process.execPath, '--require', tell, AGENTCTL, 'status', '--json']
  const { stdout, stderr } = await runProgram(argv, { env: { AGENT_HOME: home } })
  expect(JSON.parse(stdout)).toMatchObject({ agent: { home } })
  expect(stderr).toContain('NativeModule net')
  expect(stderr).not.toContain('undici')
})
