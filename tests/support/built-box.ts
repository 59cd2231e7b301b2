import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import type { ProcessRow, StatusRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, runProgram } from './agent-process.ts'
import { rawRequest } from './raw-request.ts'

const ROOT = join(import.meta.dirname, '..', '..')

/** The programs as they are released. */
export const DIST = join(ROOT, 'dist')

const FIXTURES = join(ROOT, 'tests/fixtures/bin')

/** A home for a released agent, and how to ask the agent in it; `undefined` while nobody answers. */
export const makeBox = () => {
  const home = makeHome()
  onTestFinished(() => removeHome(home))
  const ask = async <T>(path: string): Promise<T | undefined> => {
    try {
      const token = readFileSync(join(home, 'state/local-token'), 'utf8').trim()
      const headers = { authorization: `Bearer ${token}` }
      const { status, text } = await rawRequest(join(home, 'run/agent.sock'), path, { headers })
      return status === 200 ? (JSON.parse(text) as T) : undefined
    } catch {
      return undefined
    }
  }
  const agentctl = (...args: readonly string[]) =>
    runProgram([process.execPath, join(DIST, 'agentctl.js'), ...args], { env: { AGENT_HOME: home } })
  /** Brings the box to one process of kind `command`: a program of tests/fixtures/bin, named after it. */
  const apply = (program: string, more: Readonly<Record<string, unknown>> = {}) => {
    const process = { kind: 'command', command: [join(FIXTURES, program)], ...more }
    const manifest = join(home, 'manifest.yaml')
    writeFileSync(manifest, JSON.stringify({ version: 1, name: 'it', processes: { [program]: process } }))
    return agentctl('apply', manifest)
  }
  return {
    home,
    agentPid: async () => (await ask<StatusRecord>('/v1/status'))?.agent.pid,
    row: async (name: string) => (await ask<{ process: ProcessRow }>(`/v1/processes/${name}`))?.process,
    agentctl,
    apply,
    applyTicker: (env: Readonly<Record<string, string>> = {}) => apply('ticker', { restart: 'always', env }),
  }
}

/** Looks again until there is something to see; the test's own time limit ends it. */
export const until = async <T>(look: () => Promise<T | undefined | false>): Promise<T> => {
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    await delay(50)
  }
}

/** Every number that the ticker printed, in order. */
export const numbersIn = (text: string): readonly number[] =>
  text
    .split(/\r?\n/)
    .filter((line) => /^\d+$/.test(line))
    .map(Number)
