import type { GpuCode } from './gpu-code.ts'

/** An environment as the loader and Python will see it. */
export type AbiLayout = {
  /** The real path of the program. */
  readonly interpreter: string
  /** Folders with packages, first wins. */
  readonly sites: readonly string[]
  /** Files in them that will not be there: those of dists that are replaced or shadowed. */
  readonly hidden: readonly string[]
  /** LD_LIBRARY_PATH of the processes. */
  readonly libraryPath: string
  /** The numpy that modules will meet; null when there is none. */
  readonly numpy: string | null
  /** Suffixes of modules that this Python imports; empty when unknown. */
  readonly suffixes: readonly string[]
  /** Folders whose objects are asked for their GPU code. */
  readonly withGpuCode: readonly string[]
}

/** One reason why an object would not load. */
export type AbiFinding = {
  /** Relative to its site folder, so that the same file in another place is the same. */
  readonly file: string
  readonly path: string
  /** `python`: named for another Python, which passes over it. */
  readonly kind: 'damaged' | 'library' | 'symbol' | 'version' | 'numpy' | 'python'
  /** The library, symbol, version or numpy that is lacking; the damage. */
  readonly what: string
  /** The version of the symbol. */
  readonly version?: string
  /** The file that should have it and has not. */
  readonly provider?: string
  /** What the provider has in its place: the same function with other parameters. */
  readonly instead?: string
}

export type GpuObject = { readonly file: string; readonly code: GpuCode }

export type AbiAnswer = {
  /** How many shared objects were looked at. */
  readonly objects: number
  readonly findings: readonly AbiFinding[]
  /** Objects that need a library of the GPU driver, on a machine that has none. */
  readonly driverProvided: readonly string[]
  readonly gpu: readonly GpuObject[]
}

/** The findings that were not there before. An environment is never without any: optional plugins lack their programs. */
export const newFindings = (after: AbiAnswer, before: AbiAnswer): readonly AbiFinding[] => {
  const key = ({ file, kind, what, version }: AbiFinding): string =>
    [file, kind, what, version ?? ''].join('\n')
  const known = new Set(before.findings.map(key))
  return after.findings.filter((finding) => !known.has(key(finding)))
}
