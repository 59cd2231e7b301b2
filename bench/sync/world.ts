import { randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { AgentProcess } from '../../tests/support/agent-process.ts'
import { makeHome, removeHome, startAgent } from '../../tests/support/agent-process.ts'
import { findRclone } from '../../tests/support/rclone.ts'

/** Seconds that something took. */
export const timed = async (work: () => unknown): Promise<number> => {
  const startedMs = performance.now()
  await work()
  return (performance.now() - startedMs) / 1000
}

/** A file that does not compress and has no block twice. */
export const writeLarge = (path: string, sizeBytes: number): void => {
  mkdirSync(dirname(path), { recursive: true })
  const block = randomBytes(Math.min(2 ** 24, sizeBytes))
  const file = openSync(path, 'w')
  for (let written = 0; written < sizeBytes; written += block.length) {
    block.writeUInt32LE(written / block.length)
    writeSync(file, block)
  }
  closeSync(file)
}

/** Small files in a hundred folders. */
export const writeMany = (root: string, count: number): void => {
  for (let number = 0; number < count; number += 1) {
    const path = join(root, `set-${number % 100}`, `${number}.txt`)
    if (number < 100) mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, `file ${number}`)
  }
}

/** An agent whose manifest has these remotes and syncs, applied. */
export const withAgent = async (
  sync: string,
  work: (agent: AgentProcess) => Promise<void>,
  env: Readonly<Record<string, string>> = {},
): Promise<void> => {
  const home = makeHome()
  const rclone = findRclone()
  const path = `${rclone.path === undefined ? '' : `${rclone.folder}:`}${process.env['PATH'] ?? ''}`
  const agent = await startAgent({ home, env: { PATH: path, ...env } })
  try {
    writeFileSync(join(home, 'bench.yaml'), `version: 1\nname: bench\n${sync}`)
    await mustDo(agent, ['apply', join(home, 'bench.yaml')])
    await work(agent)
  } finally {
    await agent.kill('SIGTERM')
    await removeHome(home)
  }
}

/** Runs agentctl, which has to succeed. */
export const mustDo = async (agent: AgentProcess, args: readonly string[]): Promise<void> => {
  const { code, stdout, stderr } = await agent.agentctl(args)
  if (code !== 0) throw new Error(`agentctl ${args.join(' ')} exited with ${code}: ${stdout}${stderr}`)
}

/** Memory of a process in MB and the seconds of CPU that it has used. */
export const usageOf = (pid: number | undefined): { rssMb: number; cpuSeconds: number } => {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  // Ticks of a hundredth of a second, in user and in kernel mode.
  return {
    rssMb: (Number(kilobytes) * 1024) / 1e6,
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100,
  }
}
