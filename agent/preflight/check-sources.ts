import { extname } from 'node:path'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { Problem } from '../../shared/contract/errors.ts'
import type { Facts } from './facts.ts'
import type { WantedFile } from './locate-files.ts'

/** Formats that run code when they are loaded (docs/manifest.md, allow_pickle). */
const PICKLE_EXTENSIONS = new Set(['.ckpt', '.pt', '.pth', '.bin', '.pkl', '.pickle'])

/** What the sources say of each file: its size and hash, and everything that is wrong with them. */
export const checkSources = (
  files: readonly WantedFile[],
  facts: Pick<Facts, 'sources' | 'proven'>,
): { readonly files: readonly WantedFile[]; readonly problems: readonly Problem[] } => {
  const checked = files.map((file) => checkFile(file, facts))
  return { files: checked.map(({ file }) => file), problems: checked.flatMap(({ problems }) => problems) }
}

/** Incident B8: files that a program fetches by itself must be open to this token before it is started. */
export const checkAccess = (
  references: readonly string[],
  facts: Pick<Facts, 'sources'>,
): readonly Problem[] =>
  references.flatMap((reference) => {
    const fact = facts.sources.get(reference)
    if (fact?.state !== 'refused') return []
    return [{ ...fact.problem, subject: reference, severity: 'error' as const }]
  })

const checkFile = (
  file: WantedFile,
  facts: Pick<Facts, 'sources' | 'proven'>,
): { readonly file: WantedFile; readonly problems: readonly Problem[] } => {
  const severity = file.optional ? 'warning' : 'error'
  if (!file.allowPickle && PICKLE_EXTENSIONS.has(extname(file.path).toLowerCase())) {
    const refused = new AgentError(
      'pickle_refused',
      `${file.to} is a format that can run code when it is loaded`,
    )
    return { file, problems: [problemFrom(refused, file.to, severity)] }
  }
  if (facts.proven.has(file.path)) return { file, problems: [] }

  const [primary, ...mirrors] = file.from.map((reference) => ({
    reference,
    fact: facts.sources.get(reference),
  }))
  const published = primary?.fact?.state === 'answers' ? primary.fact : undefined
  const sha256 = file.sha256 ?? published?.sha256 ?? null
  const sizeBytes = file.sizeBytes ?? published?.sizeBytes ?? null
  const problems: Problem[] = []
  const someAnswer = file.from.some((reference) => facts.sources.get(reference)?.state === 'answers')

  for (const { reference, fact } of [primary, ...mirrors].filter((one) => one !== undefined)) {
    if (fact === undefined) continue
    if (fact.state === 'refused') {
      const text = someAnswer
        ? `${fact.problem.message}; another source of ${file.to} answers`
        : fact.problem.message
      problems.push({
        ...fact.problem,
        message: text,
        subject: file.to,
        severity: someAnswer ? 'warning' : severity,
      })
      continue
    }
    const difference = differs(fact, { sha256, sizeBytes })
    if (difference === undefined) {
      // The manifest's sha256, or the one the primary publishes, is what a mirror's bytes are held against.
      if (reference !== primary?.reference && sha256 === null)
        problems.push(
          problemFrom(
            new AgentError(
              'mirror_unproven',
              `${reference} cannot be proven to hold the same file as ${primary?.reference ?? 'the primary'}`,
            ),
            file.to,
            'warning',
          ),
        )
    } else if (reference === primary?.reference) {
      const code = difference.what === 'sha256' ? 'hash_mismatch' : 'size_mismatch'
      problems.push(
        problemFrom(new AgentError(code, `${reference} has ${difference.text}`), file.to, severity),
      )
    } else {
      problems.push(
        problemFrom(
          new AgentError('mirror_differs', `${reference} has ${difference.text}`),
          file.to,
          'error',
        ),
      )
    }
  }
  return { file: { ...file, sha256, sizeBytes: sizeBytes ?? firstSize(file, facts) }, problems }
}

type Known = { readonly sha256: string | null; readonly sizeBytes: number | null }

const differs = (
  fact: Known,
  wanted: Known,
): { readonly what: keyof Known; readonly text: string } | undefined => {
  if (fact.sha256 !== null && wanted.sha256 !== null && fact.sha256 !== wanted.sha256)
    return { what: 'sha256', text: `sha256 ${fact.sha256} where ${wanted.sha256} is wanted` }
  if (fact.sizeBytes !== null && wanted.sizeBytes !== null && fact.sizeBytes !== wanted.sizeBytes)
    return { what: 'sizeBytes', text: `${fact.sizeBytes} bytes where ${wanted.sizeBytes} are wanted` }
  return undefined
}

const firstSize = (file: WantedFile, facts: Pick<Facts, 'sources'>): number | null => {
  for (const reference of file.from) {
    const fact = facts.sources.get(reference)
    if (fact?.state === 'answers' && fact.sizeBytes !== null) return fact.sizeBytes
  }
  return null
}
