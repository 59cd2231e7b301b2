import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ProcessRow, StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../../tests/support/agent-process.ts'
import { timeMs } from '../measure.ts'

const TICKER = join(import.meta.dirname, '../../tests/fixtures/bin/ticker')

/** Seconds from the start of the next agent after a SIGKILL until a process is adopted, for each of some kills. */
export const measureAdoption = async (kills: number): Promise<readonly number[]> => {
  const home = makeHome()
  const start = () => startAgent({ home })
  let agent = await start()
  const row = async (): Promise<ProcessRow | undefined> => {
    const { stdout } = await agent.agentctl(['status', '--json'])
    // An agent that answers may still be about to adopt.
    return (JSON.parse(stdout) as Partial<StatusRecord>).processes?.[0]
  }
  try {
    const manifest = join(home, 'manifest.yaml')
    const ticker = { kind: 'command', command: [TICKER], restart: 'always' }
    writeFileSync(manifest, JSON.stringify({ version: 1, name: 'bench', processes: { ticker } }))
    const applied = await agent.agentctl(['apply', manifest])
    if (applied.code !== 0) throw new Error(applied.stderr)
    const pid = (await row())?.pid
    const seconds: number[] = []
    for (let kill = 0; kill < kills; kill += 1) {
      await agent.kill('SIGKILL')
      const ms = await timeMs(async () => {
        agent = await start()
        for (let now = await row(); now?.state !== 'running';) now = await row()
      })
      if ((await row())?.pid !== pid) throw new Error('the process is another one')
      seconds.push(ms / 1_000)
    }
    return seconds
  } finally {
    await agent.kill('SIGTERM')
    await removeHome(home)
  }
}
