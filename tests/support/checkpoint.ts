import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { CheckpointFiles } from '../../shared/contract/records.ts'

/** A checkpoint on disk, and what a box says about it. */
export type MadeCheckpoint = { readonly files: CheckpointFiles; readonly folder: string }

/** Writes a checkpoint of random bytes: file → size in bytes, or the text it shall have. */
export const makeCheckpoint = (
  folder: string,
  files: Readonly<Record<string, number | string>>,
  name = 'checkpoint-500',
): MadeCheckpoint => {
  const rows = Object.entries(files).map(([path, content]) => {
    const bytes = typeof content === 'number' ? randomBytes(content) : Buffer.from(content)
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), bytes)
    return { path, sizeBytes: bytes.byteLength, sha256: sha256(bytes) }
  })
  return describeCheckpoint({ folder, name, files: rows })
}

/** The record of a checkpoint whose files are listed. */
export const describeCheckpoint = (made: {
  folder: string
  name: string
  files: CheckpointFiles['files']
}): MadeCheckpoint => ({
  folder: made.folder,
  files: {
    name: made.name,
    kind: 'folder',
    sync: 'checkpoints',
    digest: `sha256:${sha256(JSON.stringify(made.files))}`,
    completeAt: '2026-11-21T10:00:00.000Z',
    files: made.files,
    remote: null,
  },
})

/** True when `folder` has every file of the checkpoint with its bytes. */
export const holds = (folder: string, { files }: MadeCheckpoint): boolean =>
  files.files.every((file) => sha256(readFileSync(join(folder, file.path))) === file.sha256)

const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex')
