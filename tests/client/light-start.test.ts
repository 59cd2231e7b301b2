import { join } from 'node:path'
import { writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { startAgentForFile } from '../support/agent-for-file.ts'
import { runProgram } from '../support/agent-process.ts'
import { AGENTCTL } from '../support/programs.ts'

const agent = await startAgentForFile()
const { home } = agent

test('agentctl status does not load node’s own fetch, which would take longer than the rest of it', async () => {
  const tell = join(home, 'tell.cjs')
  writeFileSync(tell, "process.on('exit', () => console.error(process.moduleLoadList.join('\\n')))")
  const argv = [process.execPath, '--require', tell, AGENTCTL, 'status', '--json']
  const { stdout, stderr } = await runProgram(argv, { env: { AGENT_HOME: home } })
  expect(JSON.parse(stdout)).toMatchObject({ agent: { home } })
  expect(stderr).toContain('NativeModule net')
  expect(stderr).not.toContain('undici')
})
