import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { planJobs } from '../../../agent/processes/planned-process.ts'
import type { ProcessesDeps } from '../../../agent/processes/process-table.ts'
import { ProcessSpec } from '../../../shared/manifest/schema.ts'
import { makeCosmos } from '../../support/cosmos/stand-in.ts'
import { forever, jobFolder, makeHome, planCommand, readAll, startRoom, until } from './kit.ts'

const signal = forever()

const planCosmos = (spec: Readonly<Record<string, unknown>>) =>
  planJobs('enrich', ProcessSpec.parse({ kind: 'cosmos', ...spec }), {
    interpreter: null,
    binFolder: null,
    environment: {},
    searchPath: process.env['PATH'] ?? '',
  })

const isOver = (processes: ReturnType<typeof startRoom>['processes'], name: string): Promise<void> =>
  until(() => ['exited', 'failed'].includes(processes.row(name).state))

const argvOf = (home: string, name: string): readonly string[] =>
  (JSON.parse(readFileSync(join(jobFolder(home, name), 'spec.json'), 'utf8')) as { argv: string[] }).argv

const startCosmos = (version: '2.5' | '3', files: Readonly<Record<string, string>>) => {
  const home = makeHome()
  const { working_dir, command } = makeCosmos(join(home, 'cosmos'), version, files)
  return { home, working_dir, command: [...command, '-i', 'prompts.json', '-o', 'out'], ...startRoom(home) }
}

test.each([
  { version: '2.5' as const, flags: ['--disable-guardrails', '--no-keep-going'] },
  { version: '3' as const, flags: ['--no-guardrails', '--no-keep-going'] },
])('Cosmos $version runs without its gated guardrails, by the flag it knows', async ({ version, flags }) => {
  const { home, processes, working_dir, command } = startCosmos(version, {
    'prompts.json': '["a kitchen"]',
  })
  await processes.apply(planCosmos({ working_dir, command }), { signal })
  await isOver(processes, 'enrich')
  expect(processes.row('enrich')).toMatchObject({ state: 'exited', problem: null })
  expect(argvOf(home, 'enrich').slice(-2)).toEqual(flags)
})

test('guardrails: true leaves them on, and contradicts a command that turns them off', async () => {
  const { processes, working_dir, command } = startCosmos('2.5', { 'prompts.json': '["a kitchen"]' })
  await processes.apply(planCosmos({ working_dir, command, guardrails: true }), { signal })
  await isOver(processes, 'enrich')
  expect(processes.row('enrich').problem?.message).toContain('Cosmos-Guardrail1 is gated')
  expect(() =>
    planCosmos({ working_dir, command: [...command, '--disable-guardrails'], guardrails: true }),
  ).toThrow('contradicts guardrails: true')
})

test('a script that knows no flag for guardrails is not started as if it had none', async () => {
  const { processes, working_dir } = startCosmos('2.5', {
    'other.py': 'import argparse; argparse.ArgumentParser().parse_args()',
  })
  const [outcome] = await processes.apply(planCosmos({ working_dir, command: ['python3', 'other.py'] }), {
    signal,
  })
  expect(outcome).toMatchObject({
    state: 'failed',
    problem: {
      code: 'process_failed',
      message: expect.stringContaining('--disable-guardrails, --no-guardrails') as string,
    },
  })
})

test('a launcher of several processes is not asked; the Python beside it is', () => {
  const { flags } = planCosmos({
    working_dir: '/c',
    command: ['/venv/bin/torchrun', '--nproc_per_node=8', 'examples/inference.py', '-i', 'x'],
  })[0] ?? { flags: null }
  expect(flags?.help).toEqual(['/venv/bin/python', 'examples/inference.py', '--help'])
})

test('a job that ends with 0 and made too few files has failed; files of an earlier job do not count', async () => {
  const { processes, working_dir, command } = startCosmos('2.5', {
    'prompts.json': '["a", "impossible", "c"]',
  })
  mkdirSync(join(working_dir, 'out'))
  const expected = { expect_outputs: { path: 'out', glob: '*.mp4', count: 3 } }
  const blocked = planCosmos({ working_dir, command: [...command, '--keep-going'], ...expected })
  await processes.apply(blocked, { signal })
  await isOver(processes, 'enrich')
  expect(processes.row('enrich')).toMatchObject({
    state: 'failed',
    exitCode: 0,
    problem: { code: 'outputs_missing' },
  })
  expect(processes.row('enrich').problem?.message).toContain(
    `made 2 of 3 files ${join(working_dir, 'out/*.mp4')}\nmade a\nCRITICAL generation failed\nmade c`,
  )
  writeFileSync(join(working_dir, 'prompts.json'), '["a", "b", "c"]')
  await processes.apply(blocked, { signal })
  await isOver(processes, 'enrich')
  expect(processes.row('enrich')).toMatchObject({ state: 'exited', problem: null })
})

test('files that lay there before a new specification was begun are not its work', async () => {
  const home = makeHome()
  const { processes } = startRoom(home)
  const expect_outputs = { path: home, glob: '*.mp4', count: 1 }
  writeFileSync(join(home, 'old.mp4'), 'old')
  const long = ['bash', '-c', `touch -d '1 hour ago' ${home}/old.mp4`]
  await processes.apply([planCommand('job', long, { expect_outputs })], { signal })
  await isOver(processes, 'job')
  expect(processes.row('job').problem?.message).toContain('made 0 of 1 files')
})

const stall = (load: readonly (number | null)[] | null): Partial<ProcessesDeps> => ({
  readGpuLoad: () => Promise.resolve(load),
})

test.each([
  { title: 'an idle GPU', load: [0, 1], told: 'and the GPU is idle' },
  {
    title: 'a GPU that cannot be asked',
    load: null,
    told: 'and the GPU could not be asked, so its silence alone counts',
  },
])('a job that is silent with $title is ended as stalled', async ({ load, told }) => {
  const { processes } = startRoom(makeHome(), stall(load))
  const job = planCommand('job', ['bash', '-c', 'echo begun; sleep 1000'], { stall_after: '1s' })
  await processes.apply([job], { signal })
  await isOver(processes, 'job')
  const { state, problem } = processes.row('job')
  expect([state, problem?.code]).toEqual(['failed', 'process_stalled'])
  expect(problem?.message).toMatch(new RegExp(`^job has printed nothing for 1 s, ${told}.*\nbegun`))
})

test('a silent job whose GPU is busy, and one that prints, go on', async () => {
  const busy = startRoom(makeHome(), stall([0, 90]))
  await busy.processes.apply([planCommand('job', ['sleep', '4'], { stall_after: '1s' })], { signal })
  const idle = startRoom(makeHome(), stall([0]))
  const printing = ['bash', '-c', 'for i in {1..8}; do echo $i; sleep 0.5; done']
  await idle.processes.apply([planCommand('job', printing, { stall_after: '2s' })], { signal })
  for (const { processes } of [busy, idle]) {
    await isOver(processes, 'job')
    expect(processes.row('job')).toMatchObject({ state: 'exited', problem: null })
  }
})

const MAKE = ['python3', 'make_prompts.py']
const script = (...prompts: readonly string[]): string =>
  `import json, os; open(os.environ["VARIANTS_FILE"], "w").write(json.dumps(${JSON.stringify(prompts)}))`
const useVariants = (command: readonly string[]): readonly string[] =>
  command.map((arg) => (arg === 'prompts.json' ? '{variants}' : arg))

test('the variants of a step reach the job that follows it', async () => {
  const { processes, working_dir, command } = startCosmos('2.5', { 'make_prompts.py': script('a', 'b') })
  const variants = { command: MAKE, count: 2 }
  await processes.apply(planCosmos({ working_dir, command: useVariants(command), variants }), { signal })
  await isOver(processes, 'enrich')
  expect(processes.row('enrich.variants').state).toBe('exited')
  expect(await readAll(processes, 'enrich')).toBe('made a\r\nmade b\r\n')
})

test.each([
  { title: 'fails', source: 'raise SystemExit("no model")' },
  { title: 'ends with 0 and writes too few', source: script('a') },
  { title: 'ends with 0 and writes nothing', source: '' },
])('a step that $title fails the run, and nothing stands in for its variants', async ({ source }) => {
  const { processes, working_dir, command } = startCosmos('2.5', { 'make_prompts.py': source })
  writeFileSync(join(working_dir, 'enrich.variants'), '["prompts", "of", "another scene"]')
  const variants = { command: MAKE, count: 3 }
  const outcomes = await processes.apply(
    planCosmos({ working_dir, command: useVariants(command), variants }),
    { signal },
  )
  expect(outcomes).toMatchObject([
    { name: 'enrich.variants', state: 'failed', problem: { severity: 'error' } },
    { name: 'enrich', action: 'none', state: 'failed', problem: { severity: 'error' } },
  ])
  expect(await readAll(processes, 'enrich')).toBe('')
})

test('a declared fallback is used, and stands on record as a problem', async () => {
  const { processes, working_dir, command } = startCosmos('2.5', {
    'make_prompts.py': script('a'),
    'spare.json': '["x", "y", "z"]',
  })
  const variants = { command: MAKE, count: 3, fallback: join(working_dir, 'spare.json') }
  const plan = planCosmos({ working_dir, command: useVariants(command), variants })
  const outcomes = await processes.apply(plan, { signal })
  expect(outcomes[0]?.problem).toMatchObject({ code: 'variants_failed', severity: 'warning' })
  expect(outcomes[0]?.problem?.message).toContain(`${join(working_dir, 'spare.json')} are used instead`)
  await isOver(processes, 'enrich')
  expect(await readAll(processes, 'enrich')).toBe('made x\r\nmade y\r\nmade z\r\n')
  const again = await processes.apply(plan, { signal })
  expect(again).toMatchObject([
    { action: 'kept', problem: { code: 'variants_failed', severity: 'warning' } },
    { action: 'kept', state: 'exited' },
  ])
})
