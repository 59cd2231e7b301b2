import type { Problem } from '../../shared/contract/errors.ts'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import type { Python } from '../../shared/manifest/schema.ts'
import type { BuiltWheel, GitInstall } from './built-wheels.ts'
import { withoutLogin } from './requirement-files.ts'
import type { Requirement } from './requirement-files.ts'
import { problemAt } from './requirement-files.ts'
import { isDirectRequirement } from './requirement-lines.ts'

/** What the manifest's `install` asks of pip, what it wants built, and what of it cannot be. */
export type ReadInstalls = {
  readonly requirements: readonly Requirement[]
  readonly builds: readonly GitInstall[]
  readonly problems: readonly Problem[]
}

/** Sorts the entries of `install`. Of what was built already, its own requirements are wanted. Pure. */
export const readInstalls = (install: Python['install'], built: readonly BuiltWheel[]): ReadInstalls => {
  const requirements: Requirement[] = []
  const builds: GitInstall[] = []
  const problems: Problem[] = []
  for (const one of install) {
    if ('git' in one) {
      builds.push(one)
      if (!/^[0-9a-f]{40}$/i.test(one.ref)) problems.push(unpinned(one))
      continue
    }
    const spec = one.spec.trim()
    const source = { kind: 'install', spec, noDeps: one.no_deps } as const
    const refuse = (code: Problem['code'], message: string) =>
      problems.push(problemAt(code, source, { subject: spec, message }))
    if (isDirectRequirement(spec))
      refuse(
        'not_supported',
        'paths and addresses are not installed; write name==version and put the folder into PIP_FIND_LINKS, or git and ref',
      )
    else if (/\s-/.test(spec) || /[\r\n]/.test(spec))
      refuse('requirement_invalid', 'options do not belong into a spec')
    else requirements.push({ text: spec, source, hashes: [] })
  }
  for (const wheel of built)
    for (const text of wheel.noDeps ? [] : wheel.requires)
      requirements.push({ text, source: { kind: 'install', spec: wheel.git, noDeps: false }, hashes: [] })
  return { requirements, builds, problems }
}

const unpinned = ({ git, ref }: GitInstall): Problem => ({
  code: 'unpinned_ref',
  severity: 'warning',
  subject: withoutLogin(git),
  message: `${withoutLogin(git)}: ${ref} may be another commit tomorrow`,
  hint: ERROR_CODES.unpinned_ref.hint,
})
