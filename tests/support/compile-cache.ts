import { tmpdir } from 'node:os'
import { join } from 'node:path'

/**
 * For the environment of programs that tests start: Node keeps the stripped and compiled sources between them, which
 * halves the work of a test that starts many.
 */
export const COMPILE_CACHE = { NODE_COMPILE_CACHE: join(tmpdir(), 'gpu-agent-compile-cache') } as const
