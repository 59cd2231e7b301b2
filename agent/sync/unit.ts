import type { BigIntStats } from 'node:fs'
import { basename } from 'node:path'

/** One file as the last look saw it. */
export type UnitFile = {
  /** Relative to the sync's path: where it lies on the remote too. */
  readonly path: string
  readonly sizeBytes: number
  readonly fingerprint: string
  readonly modifiedMs: number
}

/**
 * What is copied as one: a folder directly under the sync's path with everything in it, a single file there, or a part
 * of a folder that holds checkpoints (split-folder.ts).
 */
export type Unit = {
  /** Its path relative to the sync's path: `checkpoint-100`, `run-1/checkpoint-100`. */
  readonly name: string
  /** `rest`: what a folder holds beside the checkpoints in it, a log for example. */
  readonly kind: 'folder' | 'rest' | 'file'
  /** The files that are copied, by path. */
  readonly files: readonly UnitFile[]
  /** Every file there is, copied or not, relative to the sync's path: markers and indexes are looked up here. */
  readonly present: ReadonlySet<string>
  /** Names that say “not finished yet”. */
  readonly temporary: readonly string[]
  /** Names that no remote keeps as they are: the unit is not copied, and this is said. */
  readonly refused: readonly string[]
}

/** When a unit was written last by its files' own times: 0 for one without files. */
export const modifiedMsOf = (unit: Pick<Unit, 'files'>): number =>
  unit.files.reduce((newest, file) => Math.max(newest, file.modifiedMs), 0)

/** Bytes of all its files. */
export const sizeOf = (unit: Pick<Unit, 'files'>): number =>
  unit.files.reduce((sum, file) => sum + file.sizeBytes, 0)

/** Changes with every write, replacement, and restored modification time (which moves the change time). */
export const fingerprintOf = (stats: BigIntStats): string =>
  `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}:${stats.ctimeNs}`

/** What is left of a fingerprint when a file was unlinked, renamed or linked: its bytes are the same. */
export const withoutChangeTime = (fingerprint: string): string =>
  fingerprint.slice(0, fingerprint.lastIndexOf(':'))

/** The path of a unit's file relative to the unit; for a single file its name. */
export const pathInUnit = (
  unit: { readonly name: string; readonly kind: Unit['kind'] },
  path: string,
): string => (unit.kind === 'file' ? basename(path) : path.slice(unit.name.length + 1))

/** Files whose text names the newest checkpoint: copied after the checkpoints, never a checkpoint themselves. */
export const POINTER_FILES: readonly string[] = ['latest', 'latest_checkpointed_iteration.txt']

/** What frameworks write after everything else of a checkpoint; it is the last to arrive on the remote too. */
export const MARKER_FILES: readonly string[] = [
  'trainer_state.json',
  '.metadata',
  '.complete',
  '_SUCCESS',
  'latest',
]

/** Single files that are checkpoints of their own; a log or a configuration is never pruned. */
export const WEIGHTS: readonly string[] = ['.safetensors', '.pt', '.pth', '.ckpt', '.bin', '.gguf', '.zip']

/** Files and units of this size are worth their seconds, however little time is left and whatever else is pending. */
export const SMALL_BYTES = 8 * 2 ** 20

/** Our own files beside the user's, on both sides. */
export const OWN_FOLDER = '.gpu-agent'
