import { AgentError } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import { nodeFolderName } from '../../shared/sources/ask-git.ts'
import { makePlan } from './make-plan.ts'
import type { Plan } from './make-plan.ts'
import type { ReadManifest } from './read-manifest.ts'

/*
 * Incident A5: a switch that let everything be missing brought boxes up half-provisioned, looking fine. Here each thing
 * to do without is named, only what the plan has errors about is left out, and the run says so for good: `degraded`.
 */

/** Rounds of leaving out: what is left out may have been what something else was waiting for. */
const MOST_ROUNDS = 4

/**
 * The plan without what the user can do without, where the plan has an error about it; its errors become warnings.
 * @throws AgentError bad_request for a name that neither the manifest nor a problem knows
 */
export const planWithout = async (
  read: ReadManifest,
  context: Parameters<typeof makePlan>[1] & { readonly allowMissing: readonly string[] },
): Promise<Plan> => {
  const allowed = new Set(context.allowMissing)
  let current = read
  let plan = await makePlan(current, context)
  refuseUnknown(plan, { read, allowed })
  const leftOut: Problem[] = []
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const found = plan.problems.filter((problem) => isError(problem) && isAllowed(problem, allowed))
    const names = new Set(found.flatMap(namesOf))
    const manifest = withoutSubjects(current.manifest, names)
    if (JSON.stringify(manifest) === JSON.stringify(current.manifest)) break
    leftOut.push(...found)
    current = {
      ...current,
      manifest,
      problems: current.problems.filter(({ subject }) => !names.has(subject)),
      missing: withoutNeeds(current.missing, names),
    }
    plan = await makePlan(current, context)
  }
  const tolerated = plan.problems.filter((problem) => isError(problem) && isAllowed(problem, allowed))
  const problems = [
    ...plan.problems.filter((problem) => !tolerated.includes(problem)),
    ...[...tolerated, ...leftOut].map(asLeftOut),
  ]
  return {
    ...plan,
    problems,
    isPartial: tolerated.length + leftOut.length > 0,
    record: { ...plan.record, problems },
  }
}

const isError = ({ severity }: Problem): boolean => severity === 'error'

const namesOf = ({ subject, subjects = [] }: Problem): readonly string[] => [subject, ...subjects]

/** By its own name, or by the names of everything that it is about. */
const isAllowed = (problem: Problem, allowed: ReadonlySet<string>): boolean =>
  allowed.has(problem.subject) ||
  (problem.subjects !== undefined && problem.subjects.every((subject) => allowed.has(subject)))

const asLeftOut = (problem: Problem): Problem => ({
  ...problem,
  severity: 'warning',
  message: `${problem.message}; the run goes on without it (--allow-missing)`,
})

const refuseUnknown = (
  plan: Plan,
  { read, allowed }: { readonly read: ReadManifest; readonly allowed: ReadonlySet<string> },
): void => {
  const known = new Set(plan.problems.flatMap(namesOf))
  const unknown = [...allowed].find((name) => !known.has(name) && read.placeOf(name) === undefined)
  if (unknown !== undefined)
    throw new AgentError('bad_request', `--allow-missing: nothing in the manifest is called ${unknown}`, {
      hint: 'Give the subject of a problem as the plan names it: agentctl plan MANIFEST.',
    })
}

/** The manifest without these things, and without what cannot be without them. */
const withoutSubjects = (manifest: Manifest, names: ReadonlySet<string>): Manifest => {
  const { requires, python, secrets } = manifest
  const gpu = Object.entries(requires.gpu ?? {}).filter(([key]) => !names.has(`requires.gpu.${key}`))
  const processes = withoutProcesses(manifest.processes, names)
  return {
    ...manifest,
    secrets: {
      ...secrets,
      required: secrets.required.filter((name) => !names.has(name)),
      optional: secrets.optional.filter((name) => !names.has(name)),
    },
    requires: {
      ...requires,
      gpu: requires.gpu === undefined || names.has('requires.gpu') ? undefined : Object.fromEntries(gpu),
      access: requires.access.filter((reference) => !names.has(reference)),
    },
    downloads: manifest.downloads.filter(
      (download) => !names.has('to' in download ? download.to : download.snapshot),
    ),
    custom_nodes: manifest.custom_nodes.filter(
      ({ git }) => !names.has(git) && !names.has(nodeFolderName(git)),
    ),
    python:
      python === undefined || names.has('python')
        ? undefined
        : {
            ...python,
            requirements: python.requirements.filter((file) => !names.has(file)),
            install: python.install.filter((entry) =>
              'git' in entry
                ? !names.has(entry.git) && !names.has(nodeFolderName(entry.git))
                : !names.has(entry.spec) && !names.has(/^[A-Za-z0-9._-]*/.exec(entry.spec)?.[0] ?? ''),
            ),
            imports: python.imports.filter((module) => !names.has(module)),
          },
    processes,
    sync: manifest.sync.filter(({ name, to }) => !names.has(name) && !names.has(to.split(':')[0] ?? '')),
    budget: names.has('budget') ? undefined : manifest.budget,
    notify: names.has('notify') ? undefined : manifest.notify,
  }
}

/** A process that waits for one that is left out is left out too. */
const withoutProcesses = (
  processes: Manifest['processes'],
  names: ReadonlySet<string>,
): Manifest['processes'] => {
  const kept = Object.entries(processes).filter(
    ([name, { depends_on: waitsFor }]) =>
      !names.has(name) && waitsFor.every((other) => Object.hasOwn(processes, other)),
  )
  const left = Object.fromEntries(kept.map(([name, spec]) => [name, withoutWorkflows(spec, names)]))
  return kept.length === Object.keys(processes).length ? left : withoutProcesses(left, names)
}

const withoutWorkflows = (
  spec: Manifest['processes'][string],
  names: ReadonlySet<string>,
): Manifest['processes'][string] =>
  spec.kind === 'comfyui' ? { ...spec, workflows: spec.workflows.filter((file) => !names.has(file)) } : spec

const withoutNeeds = (missing: ReadMissing, names: ReadonlySet<string>): ReadMissing =>
  new Map(
    [...missing]
      .map(([name, subjects]) => [name, subjects.filter((subject) => !names.has(subject))] as const)
      .filter(([, subjects]) => subjects.length > 0),
  )

type ReadMissing = ReadManifest['missing']
