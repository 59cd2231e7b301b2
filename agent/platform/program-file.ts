import { join } from 'node:path'

/**
 * A file of the program itself (the shim, a worker, a Python script): beside its source in a checkout, beside the
 * bundle in a release, where everything lies flat in one folder.
 * @param dirname import.meta.dirname of the caller
 * @param source the file relative to the caller in a checkout
 * @param built its name in the release
 */
export const programFile = (dirname: string, source: string, built: string): string =>
  join(dirname, import.meta.filename.endsWith('.ts') ? source : built)
