import { ERROR_CODES } from '../contract/errors.ts'
import type { Manifest } from '../manifest/schema.ts'
import { nodeFolderName } from '../sources/ask-git.ts'
import type { GitRef } from '../sources/ask-git.ts'
import { keyOfRef } from './ask-sources.ts'
import type { CausedProblem } from './caused-problem.ts'
import type { SourceFacts } from './source-facts.ts'

type WantedRef = GitRef & { readonly optional: boolean; readonly isNode: boolean }

/** The repositories that are cloned: custom nodes, and packages that are built from git. */
export const wantedRefs = (manifest: Manifest): readonly WantedRef[] => [
  ...manifest.custom_nodes.map(({ git, ref, optional }) => ({ git, ref, optional, isNode: true })),
  ...(manifest.python?.install ?? []).flatMap((entry) =>
    'git' in entry ? [{ git: entry.git, ref: entry.ref, optional: false, isNode: false }] : [],
  ),
]

/** Repositories and refs that are not there, and refs that mean another commit tomorrow. */
export const checkGitRefs = (
  manifest: Manifest,
  facts: Pick<SourceFacts, 'gitRefs'>,
): { readonly problems: readonly CausedProblem[]; readonly unchecked: readonly string[] } => {
  const problems: CausedProblem[] = []
  const unchecked: string[] = []
  for (const wanted of wantedRefs(manifest)) {
    const { git, ref, optional } = wanted
    const subject = nodeFolderName(git)
    const fact = facts.gitRefs.get(keyOfRef(wanted))
    if (fact?.state === 'refused')
      problems.push({ ...fact.problem, subject, severity: optional ? 'warning' : 'error' })
    if (fact?.state === 'unlisted') unchecked.push(`${subject}: whether ${git} has the commit ${ref}`)
    if (fact?.state === 'found' && fact.commit !== ref.toLowerCase())
      problems.push({
        code: 'unpinned_ref',
        severity: 'warning',
        subject,
        message: `${git}: ${ref} is ${fact.commit} today and may be another one tomorrow`,
        hint: ERROR_CODES.unpinned_ref.hint,
      })
  }
  return { problems, unchecked }
}
