/*
 * The download engine beside aria2c and Hugging Face's hf, from a hub on loopback; cases.ts says what is measured and what
 * is to be reached:
 *
 *   npm run bench:downloads -- [--only a,b,c,d,e] [--rounds 5] [--hf PATH] [--folder FOLDER]
 *
 * Every result is hashed. Rounds of all tools take turns and medians are compared, so that other work on the machine meets
 * them alike; it still disturbs the numbers, and the load is printed for that. Ends with 0 also where a goal is missed:
 * the numbers are what it is for.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { median } from '../measure.ts'
import { type Case, CASES, type Figure, type Goal } from './cases.ts'
import { type Measured, runTool, startServer } from './run-tool.ts'
import { aria2, aria2Raw, hf, isThere, prepareAgent, type Tool } from './tools.ts'

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'a,b,c,d,e' },
    rounds: { type: 'string', default: '5' },
    hf: { type: 'string', default: 'hf' },
    folder: { type: 'string', default: tmpdir() },
  },
})
const rounds = Number(values.rounds)

const findTools = async (): Promise<readonly Tool[]> => {
  const tools: Tool[] = [await prepareAgent()]
  if (isThere('aria2c')) tools.push(aria2, aria2Raw)
  else console.log('aria2 is left out: there is no aria2c program')
  if (isThere(values.hf)) tools.push(hf(values.hf))
  else console.log(`hf is left out: there is no ${values.hf} program (--hf names another)`)
  return tools
}

type Results = ReadonlyMap<string, readonly Measured[]>

const measure = async (
  chosen: Case,
  context: { tools: readonly Tool[]; parent: string },
): Promise<Results> => {
  const results = new Map<string, Measured[]>()
  const { served, stop } = await startServer(chosen)
  const sizeBytes = sizeOf(chosen)
  try {
    for (let round = 0; round < rounds; round += 1)
      for (const tool of context.tools) {
        if (tool.name === chosen.seldom && round % 2 === 1) continue
        const killAtBytes = chosen.isKilled === true ? { killAtBytes: sizeBytes / 2 } : {}
        try {
          const measured = await runTool(tool, { served, parent: context.parent, ...killAtBytes })
          results.set(tool.name, [...(results.get(tool.name) ?? []), measured])
        } catch (error) {
          console.log(`   ${tool.name}: ${error instanceof Error ? error.message : String(error)}`)
        }
      }
  } finally {
    stop()
  }
  return results
}

const sizeOf = (chosen: Case): number => chosen.files.reduce((sum, file) => sum + file.sizeBytes, 0)

const medianOf = (
  name: string,
  context: { results: Results; figure: Figure; chosen: Case },
): number | undefined => {
  const runs = context.results.get(name) ?? []
  const numbers = runs.map((measured) => context.figure.of(measured, sizeOf(context.chosen)))
  return numbers.length === 0 ? undefined : median(numbers)
}

/** `PASS  2.31 x aria2 in s (goal: 1.8)`; SKIP where one of the two was not measured. */
const judge = (goal: Goal, context: { results: Results; chosen: Case }): readonly string[] => {
  const of = (name: string): number | undefined => medianOf(name, { ...context, figure: goal.figure })
  const own = of('agent')
  const { what } = goal.figure
  if ('atMost' in goal)
    return own === undefined
      ? [`SKIP  ${what}: the agent was not measured`]
      : [`${own <= goal.atMost ? 'PASS' : 'MISS'}  ${own.toFixed(2)} ${what} (goal: at most ${goal.atMost})`]
  return goal.than.map((name) => {
    const other = of(name)
    if (own === undefined || other === undefined) return `SKIP  beside ${name}: it was not measured`
    const ratio = other / own
    return `${ratio >= goal.times ? 'PASS' : 'MISS'}  ${ratio.toFixed(2)} x as fast as ${name} (goal: ${goal.times})`
  })
}

const tools = await findTools()
const parent = mkdtempSync(join(values.folder, 'bench-downloads-'))
const verdicts: string[] = []
console.log(`${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}, ${rounds} rounds`)
try {
  for (const key of values.only.split(',')) {
    const chosen = CASES[key]
    if (chosen === undefined) throw new Error(`there is no case ${key}`)
    console.log(`\n${key}  ${chosen.title}`)
    const present = tools.filter(({ name }) => chosen.tools.includes(name))
    const results = await measure(chosen, { tools: present, parent })
    for (const figure of new Set(chosen.goals.map((goal) => goal.figure)))
      for (const { name } of present) {
        const value = medianOf(name, { results, figure, chosen })
        const runs = results.get(name)?.length ?? 0
        if (value !== undefined)
          console.log(`   ${name.padEnd(10)} ${value.toFixed(2).padStart(9)} ${figure.what} (${runs} runs)`)
      }
    for (const verdict of chosen.goals.flatMap((goal) => judge(goal, { results, chosen })))
      verdicts.push(`${key}  ${verdict}`)
  }
} finally {
  rmSync(parent, { recursive: true, force: true })
}
console.log(`\nload ${loadavg()[0]?.toFixed(1)} at the end\n${verdicts.join('\n')}`)
