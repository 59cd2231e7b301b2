import type { Problem } from '../../shared/contract/errors.ts'
import type { OpenRequest } from './explain.ts'
import type { WeighedPython } from './inspect-python.ts'
import type { ProtectedDists } from './protected.ts'
import type { Requirement } from './requirement-files.ts'
import { problemAt, sourceName } from './requirement-files.ts'

type Facts = { readonly top: WeighedPython; readonly protectedSet: ProtectedDists }

/**
 * What is left to install of everything that is wished for, and what cannot be. Pure.
 *
 * A wish for a protected dist is checked, never installed. In a requirements file it is a warning: somebody else wrote
 * the file, and the rest of it is still wanted. In the manifest it is an error: its author can take it out.
 */
export const sortRequests = (
  wishes: readonly Requirement[],
  { top, protectedSet }: Facts,
): { readonly open: readonly OpenRequest[]; readonly problems: readonly Problem[] } => {
  const problems: Problem[] = []
  const open = new Map<string, OpenRequest>()
  const inConflict = new Set(top.conflicts.flat())
  for (const group of top.conflicts) {
    const members = group.flatMap((index) => wishes[index] ?? [])
    const [first, ...others] = members
    if (first !== undefined)
      problems.push(
        problemAt('requirement_conflict', first.source, {
          subject: first.text,
          message:
            `${first.text} excludes ` +
            others.map((other) => `${other.text} (${sourceName(other.source)})`).join(', '),
        }),
      )
  }
  for (const [index, wish] of wishes.entries()) {
    if (inConflict.has(index)) continue
    const one = top.weighed[index]
    const say = (problem: Parameters<typeof problemAt>[2], code: Problem['code'] = 'install_blocked') =>
      problems.push(problemAt(code, wish.source, problem))
    if (one === undefined) continue
    if (one.error !== undefined) {
      say(
        { subject: wish.text, message: `${wish.text} is not a requirement: ${one.error}` },
        'requirement_invalid',
      )
      continue
    }
    if (!one.applies || one.missing.length === 0) continue
    const kept = protectedSet.get(one.name)
    const alias = top.aliases[one.name]
    if (one.url !== null)
      say(
        {
          subject: wish.text,
          message: `${one.name} is given by an address; only names with wheels are installed`,
        },
        'not_supported',
      )
    else if (kept !== undefined && one.satisfied) continue
    else if (kept !== undefined)
      say({
        subject: one.name,
        severity: wish.source.kind === 'file' ? 'warning' : 'error',
        message: `wants ${one.text}, but ${one.name} ${kept} is protected and stays`,
      })
    else if (alias !== undefined)
      say({
        subject: one.name,
        message: `wants ${one.text}, which would overwrite the files of the OpenCV ${alias} that is installed`,
      })
    else {
      const noDeps = wish.source.kind === 'install' && wish.source.noDeps
      const key = `${noDeps} ${one.text}`
      const same = open.get(key)
      open.set(key, {
        name: one.name,
        text: one.text,
        sources: same === undefined ? [wish.source] : [...same.sources, wish.source],
        hashes: [...(same?.hashes ?? []), ...wish.hashes],
        noDeps,
      })
    }
  }
  return { open: [...open.values()], problems }
}
