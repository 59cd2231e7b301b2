import type { Problem } from '../../shared/contract/errors.ts'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import type { AbiFinding } from './abi/abi-layout.ts'
import { demangle } from './abi/mangled-name.ts'

export type FindingFacts = {
  /** The dist that a file belongs to, where it is known. */
  ownerOf(file: string): string | undefined
  /** The torch and the numpy that are there. */
  readonly torch: string | null
  readonly numpy: string | null
  readonly searchPath: string
  readonly signal: AbortSignal
}

/** Findings as people read them: one problem for each object, with the file, what it lacks and who should have it. */
export const explainFindings = async (
  findings: readonly AbiFinding[],
  facts: FindingFacts,
): Promise<readonly Problem[]> => {
  const groups = Map.groupBy(findings, ({ file, kind }) => `${kind} ${file}`)
  const told = [...groups.values()].flatMap((group) => {
    const [first, ...others] = group
    return first === undefined ? [] : [{ first, others }]
  })
  const names = told.flatMap(({ first }) =>
    first.kind === 'symbol' ? [first.what, ...(first.instead === undefined ? [] : [first.instead])] : [],
  )
  const readable = await demangle(names, facts)
  const nameOf = (symbol: string): string => readable.get(symbol) ?? symbol
  return told.map(({ first, others }) => {
    const more = others.length === 0 ? '' : `, and ${others.length} more like it`
    return {
      code: 'install_abi_conflict',
      severity: first.kind === 'python' ? 'warning' : 'error',
      subject: facts.ownerOf(first.file) ?? first.file,
      message: `${first.file} ${reasonOf(first, nameOf, facts)}${more}`,
      hint: hintOf(first, facts),
    }
  })
}

const reasonOf = (finding: AbiFinding, nameOf: (symbol: string) => string, facts: FindingFacts): string => {
  const { what, provider, instead } = finding
  switch (finding.kind) {
    case 'damaged':
      return `is damaged: ${what}`
    case 'library':
      return `needs ${what}, which is not there${provider === undefined ? '' : `; there is ${provider}`}`
    case 'version':
      return `needs ${what}, which ${provider ?? 'its library'} does not have`
    case 'numpy':
      return `was compiled for ${what}, and numpy is ${facts.numpy ?? 'not there'}`
    case 'python':
      return 'is named for another Python, so that its import finds nothing'
    case 'symbol': {
      const symbol = nameOf(what) === what ? what : `${nameOf(what)} (${what})`
      return provider === undefined || instead === undefined
        ? `needs ${symbol}${finding.version === undefined ? '' : ` in ${finding.version}`}, which nothing here has`
        : `needs ${symbol}, and ${provider} has ${nameOf(instead)} instead`
    }
  }
}

/** Names of torch's own C++ and C interface. */
const OF_TORCH = /^_ZNK?(3c10|2at|5torch|5caffe2)|^(aoti_)?torch_/

const hintOf = ({ kind, what, instead }: AbiFinding, { torch, numpy }: FindingFacts): string => {
  if (kind === 'symbol' && OF_TORCH.test(what)) {
    // Old strings are “Ss”; new ones carry “__cxx11”.
    const hasOldStrings = /(RK|R|E|P)?Ss/.test(what) && !what.includes('__cxx11')
    if (hasOldStrings && instead?.includes('__cxx11'))
      return 'It was built with the old C++ strings: take its cxx11abi build.'
    return `It was built for another torch: take a version built for torch ${torch ?? 'that is there'}.`
  }
  if (kind === 'symbol' && /^_?Py/.test(what)) return 'It was built for another Python: take another version.'
  if (kind === 'library' && /^lib(cu|nv)/.test(what))
    return 'It was built for another CUDA: take a version for the CUDA of this torch.'
  if (kind === 'library' && /^lib(torch|c10)/.test(what))
    return 'It was built for a torch with CUDA; this torch has none.'
  if (kind === 'version')
    return 'It was built on a newer system: take an older version of it, or a newer image.'
  if (kind === 'numpy') return `Take a version that was built for numpy ${numpy ?? 'of this image'}.`
  if (kind === 'damaged') return 'The wheel is broken: take another version of it.'
  return ERROR_CODES.install_abi_conflict.hint
}
