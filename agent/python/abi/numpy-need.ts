import { withFile } from './read-elf.ts'

const CHUNK_BYTES = 2 ** 20
/** Longer than any of the texts that are looked for. */
const OVERLAP_BYTES = 160
/** Larger objects are libraries of CUDA or torch, not modules for numpy. */
const MAX_BYTES = 200e6

const OLD = 'numpy.core._multiarray_umath'
const NEW = 'numpy._core._multiarray_umath'
const COMPILED = 'compiled against NumPy C-API version'

/** Which numpy a module was compiled for, by the texts that numpy's headers put into it; null where it uses none. */
export type NumpyNeed = { readonly kind: 'below-2' } | { readonly kind: 'at-least'; readonly version: string }

/**
 * Reads a module for what it says about numpy. A module compiled for numpy 1 looks in numpy.core alone, which
 * numpy 2 has only as a shell; one compiled with numpy 2 looks in both and names the oldest that it works with.
 */
export const readNumpyNeed = (path: string): NumpyNeed | null =>
  withFile(path, (file) => {
    if (file.size > MAX_BYTES) return null
    let old = false
    let recent = false
    let version: string | undefined
    for (let at = 0; at < file.size; at += CHUNK_BYTES) {
      const chunk = file.read(at, Math.min(CHUNK_BYTES + OVERLAP_BYTES, file.size - at))
      old ||= chunk.includes(OLD, 0, 'latin1')
      recent ||= chunk.includes(NEW, 0, 'latin1')
      const said = chunk.indexOf(COMPILED, 0, 'latin1')
      if (said >= 0) version ??= /\(NumPy (\d+\.\d+)/.exec(chunk.toString('latin1', said, said + 100))?.[1]
    }
    if (old && !recent) return { kind: 'below-2' }
    return recent && version !== undefined ? { kind: 'at-least', version } : null
  })

/** True when a numpy of this version serves the module. */
export const servesNumpy = (need: NumpyNeed, version: string): boolean => {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (need.kind === 'below-2') return major < 2
  const [needMajor = 0, needMinor = 0] = need.version.split('.').map(Number)
  return major > needMajor || (major === needMajor && minor >= needMinor)
}
