import { afterAll } from 'vitest'
import type { AgentProcess } from './agent-process.ts'
import { makeHome, removeHome, startAgent } from './agent-process.ts'

/** One agent for all tests of a file, in a home of its own; after the last of them it and its processes are gone. */
export const startAgentForFile = async (): Promise<AgentProcess> => {
  const home = makeHome()
  const agent = await startAgent({ home })
  afterAll(async () => {
    await agent.kill('SIGTERM')
    await removeHome(home)
  })
  return agent
}
