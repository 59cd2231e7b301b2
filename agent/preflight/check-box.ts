import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { ErrorCode, Problem } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { Facts } from './facts.ts'
import { portOf } from './gather-facts.ts'

const problem = (
  code: ErrorCode,
  subject: string,
  message: string,
  severity: Problem['severity'] = 'error',
): Problem => problemFrom(new AgentError(code, message), subject, severity)

/** GPU, driver and compute capability against `requires.gpu`. */
export const checkGpu = (manifest: Manifest, facts: Pick<Facts, 'gpus'>): readonly Problem[] => {
  const wanted = manifest.requires.gpu
  if (wanted === undefined) return []
  if (facts.gpus === null || facts.gpus.length === 0)
    return [problem('gpu_missing', 'requires.gpu', 'the box has no GPU that nvidia-smi shows')]
  return facts.gpus.flatMap((gpu) => {
    const found: Problem[] = []
    if (wanted.min_vram !== undefined && gpu.memoryTotalBytes < wanted.min_vram)
      found.push(
        problem(
          'gpu_too_small',
          'requires.gpu.min_vram',
          `${gpu.name} has ${formatSize(gpu.memoryTotalBytes)}; ${formatSize(wanted.min_vram)} are required`,
        ),
      )
    if (wanted.min_driver !== undefined && compareVersions(gpu.driver, wanted.min_driver) < 0)
      found.push(
        problem(
          'driver_too_old',
          'requires.gpu.min_driver',
          `the driver is ${gpu.driver}; ${wanted.min_driver} is required`,
        ),
      )
    const capability = wanted.min_compute_capability
    if (
      capability !== undefined &&
      gpu.computeCapability !== null &&
      compareVersions(gpu.computeCapability, capability) < 0
    )
      found.push(
        problem(
          'gpu_too_small',
          'requires.gpu.min_compute_capability',
          `${gpu.name} has compute capability ${gpu.computeCapability}; ${capability} is required`,
        ),
      )
    return found
  })
}

/** Negative when a is older than b; dotted numbers compare number by number. */
export const compareVersions = (a: string, b: string): number => {
  const [left, right] = [a.split('.').map(Number), b.split('.').map(Number)]
  for (let index = 0; index < Math.max(left.length, right.length); index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

/** Working folders that are not there, and ports that something else listens on. */
export const checkProcesses = (
  manifest: Manifest,
  facts: Pick<Facts, 'folders' | 'portsInUse'>,
  /** Names of processes that run under the agent now: their ports are their own. */
  running: ReadonlySet<string>,
): readonly Problem[] =>
  Object.entries(manifest.processes).flatMap(([name, spec]) => {
    const found: Problem[] = []
    if (spec.working_dir !== undefined && !facts.folders.has(spec.working_dir))
      found.push(
        problem(
          'working_dir_missing',
          name,
          `the folder ${spec.working_dir} of the process ${name} is not there`,
        ),
      )
    for (const port of portOf(spec))
      if (facts.portsInUse.has(port) && !running.has(name))
        found.push(
          problem('port_in_use', name, `port ${port} of the process ${name} is in use by another program`),
        )
    return found
  })

/** Programs that the manifest's parts are carried out with. */
export const checkPrograms = (manifest: Manifest, facts: Pick<Facts, 'programs'>): readonly Problem[] => {
  const fromGit = (manifest.python?.install ?? []).some((entry) => 'git' in entry)
  const cosmos = Object.entries(manifest.processes).find(([, { kind }]) => kind === 'cosmos')?.[0]
  const isMissing = (name: string) => facts.programs.get(name) === undefined
  return [
    ...((manifest.custom_nodes.length > 0 || fromGit) && isMissing('git')
      ? [
          problem(
            'program_missing',
            'git',
            `git is not on the PATH of the agent; ${manifest.custom_nodes.length > 0 ? 'custom_nodes' : 'python.install'} need it`,
          ),
        ]
      : []),
    // A Cosmos that brings its own is possible, so this is no error.
    ...(cosmos !== undefined && isMissing('ffmpeg')
      ? [
          problem(
            'program_missing',
            'ffmpeg',
            `ffmpeg is not on the PATH of the agent; Cosmos reads and writes videos with it in ${cosmos}`,
            'warning',
          ),
        ]
      : []),
  ]
}
