import { join } from 'node:path'

const dist = join(import.meta.dirname, '..', '..', 'dist')

/** The programs as they are released, built once before the tests (build-programs.ts): they start twice as fast as the sources. */
export const AGENTD = join(dist, 'agentd.js')
export const AGENTCTL = join(dist, 'agentctl.js')
