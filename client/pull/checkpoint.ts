import { AgentError } from '../../shared/contract/errors.ts'
import type { CheckpointFiles } from '../../shared/contract/records.ts'
import type { Api } from '../api.ts'
import { joinInside } from './safe-path.ts'

/** One file of a checkpoint, checked: a safe path, a whole number of bytes, a sha256. */
export type CheckpointFile = CheckpointFiles['files'][number]

/** A checkpoint that was resolved to a digest: what is transferred does not change while it is transferred. */
export type Checkpoint = Omit<CheckpointFiles, 'files'> & {
  readonly files: readonly CheckpointFile[]
  readonly sizeBytes: number
}

/**
 * Asks the box what a checkpoint is made of. `name` may be `latest`: the answer says which one that is.
 * @throws AgentError not_found, unsafe_path, and those of the API
 */
export const resolveCheckpoint = async (
  { name, sync }: { name: string; sync: string | undefined },
  api: Api,
): Promise<Checkpoint> => {
  const answer = await api.checkpointFiles(name, sync)
  checkCheckpoint(answer)
  return withSize(answer)
}

/** What is asked of a description, whoever gives it. @throws AgentError unsafe_path, internal */
export const checkCheckpoint = (answer: Omit<Checkpoint, 'sizeBytes'>): void => {
  joinInside('.', answer.name)
  const paths = new Set<string>()
  for (const { path, sizeBytes, sha256 } of answer.files) {
    joinInside('.', path)
    if (
      paths.has(path) ||
      !Number.isSafeInteger(sizeBytes) ||
      sizeBytes < 0 ||
      !/^[0-9a-f]{64}$/.test(sha256)
    )
      throw new AgentError(
        'internal',
        `the box describes ${JSON.stringify(path)} wrongly: ${sizeBytes} bytes, ${sha256}`,
      )
    paths.add(path)
  }
  if (answer.kind === 'file' && answer.files.length !== 1)
    throw new AgentError(
      'internal',
      `the box says ${answer.name} is one file and names ${answer.files.length}`,
    )
}

const withSize = (answer: CheckpointFiles): Checkpoint => ({
  ...answer,
  // An agent of before does not tell.
  remote: answer.remote ?? null,
  sizeBytes: answer.files.reduce((sum, file) => sum + file.sizeBytes, 0),
})
