import { createHash } from 'node:crypto'
import type { Content } from './content.ts'

/** As git names a file with this content. */
export const gitSha1 = (content: Content): string =>
  createHash('sha1')
    .update(`blob ${content.sizeBytes}\0`)
    .update(content.read(0, content.sizeBytes))
    .digest('hex')
