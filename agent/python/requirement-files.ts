import { glob, readFile, realpath } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { ErrorCode, Problem } from '../../shared/contract/errors.ts'
import { ERROR_CODES } from '../../shared/contract/errors.ts'
import { errnoOf, errorText } from '../platform/files.ts'
import { repairRequirement } from './repair-requirement.ts'
import type { RequirementLine } from './requirement-lines.ts'
import { readRequirementLines } from './requirement-lines.ts'

/** Where a requirement was written. */
export type RequirementSource =
  | { readonly kind: 'file'; readonly file: string; readonly line: number }
  /** An entry of the manifest's `install` list. */
  | { readonly kind: 'install'; readonly spec: string; readonly noDeps: boolean }

/** A requirement as it was written (and mended), not yet weighed. */
export type Requirement = {
  readonly text: string
  readonly source: RequirementSource
  readonly hashes: readonly string[]
}

export type RequirementFiles = {
  readonly files: readonly string[]
  readonly requirements: readonly Requirement[]
  /** Bounds from `-c` lines: they exclude versions and ask for nothing. */
  readonly constraints: readonly Requirement[]
  /** https indexes that the files name, beside the machine's own. */
  readonly indexes: readonly string[]
  readonly problems: readonly Problem[]
}

/** No real requirements file comes near this; a model that was globbed by mistake does. */
const MAX_FILE_BYTES = 2 * 2 ** 20
const MAX_FILES = 2_000

/**
 * Reads every requirements file that the patterns name, one by one, with the files they include.
 * What is wrong with a line is a problem that names file and line; nothing is thrown for it.
 * @param where.paths files named one by one, in which no character is a wildcard
 * @param where.leftOut folders in which patterns find nothing
 */
export const readRequirementFiles = async (where: {
  readonly patterns: readonly string[]
  readonly paths: readonly string[]
  readonly leftOut?: readonly string[]
}): Promise<RequirementFiles> => {
  const isLeftOut = (file: string): boolean =>
    (where.leftOut ?? []).some((folder) => file.startsWith(`${folder}/`))
  const found: Found = { requirements: [], constraints: [], indexes: [], problems: [], seen: new Set() }
  const files = new Set<string>(where.paths)
  for (const pattern of where.patterns) {
    const matches = /[*?[\]{}]/.test(pattern)
      ? (await matchFiles(pattern)).filter((file) => !isLeftOut(file))
      : [pattern]
    for (const file of matches.slice(0, MAX_FILES)) files.add(file)
  }
  for (const file of files) await readFileInto(found, { file, kind: 'requirement', chain: [] })
  const { requirements, constraints, indexes, problems } = found
  return { files: [...files], requirements, constraints, indexes, problems }
}

/** `/nodes/a/requirements.txt:4`, or the spec of the manifest. */
export const sourceName = (source: RequirementSource): string =>
  source.kind === 'file' ? `${source.file}:${source.line}` : `python.install ${source.spec}`

/** A problem that says where its cause is written. */
export const problemAt = (
  code: ErrorCode,
  source: RequirementSource,
  said: { subject: string; message: string; severity?: Problem['severity']; hint?: string },
): Problem => {
  const where = sourceName(source)
  const isSpec = code === 'requirement_invalid' && source.kind === 'install'
  return {
    code,
    severity: said.severity ?? 'error',
    subject: said.subject,
    ...(source.kind === 'file' ? { at: { file: source.file, line: source.line, column: 1 } } : {}),
    message: said.message.includes(where) ? said.message : `${where}: ${said.message}`,
    hint: said.hint ?? (isSpec ? 'Write a requirement like natsort==8.4.0.' : ERROR_CODES[code].hint),
  }
}

const matchFiles = async (pattern: string): Promise<string[]> => {
  const matches: string[] = []
  for await (const match of glob(pattern)) matches.push(match)
  return matches.sort()
}

type Found = {
  requirements: Requirement[]
  constraints: Requirement[]
  indexes: string[]
  problems: Problem[]
  seen: Set<string>
}

type Visit = {
  readonly file: string
  readonly kind: 'requirement' | 'constraint'
  /** The files that led here, outermost first. */
  readonly chain: readonly { readonly path: string; readonly source: RequirementSource }[]
}

const readFileInto = async (found: Found, visit: Visit): Promise<void> => {
  const source = visit.chain.at(-1)?.source ?? { kind: 'file', file: visit.file, line: 1 }
  const path = await realpath(visit.file).catch(() => visit.file)
  if (visit.chain.some((outer) => outer.path === path)) {
    const message = `includes ${visit.file}, which includes it in turn; it is read once`
    found.problems.push(
      problemAt('requirement_invalid', source, { subject: visit.file, message, severity: 'warning' }),
    )
    return
  }
  // Two files may include a third; its lines count once.
  const key = `${visit.kind} ${path}`
  if (found.seen.has(key)) return
  found.seen.add(key)
  const bytes = await readSmallFile(path).catch((error: unknown) => {
    const why = errnoOf(error) === 'ENOENT' ? 'there is no such file' : errorText(error)
    found.problems.push(
      problemAt('requirement_invalid', source, {
        subject: visit.file,
        message: `cannot read ${visit.file}: ${why}`,
        hint: 'Correct the path.',
      }),
    )
    return new Uint8Array()
  })
  for (const line of readRequirementLines(bytes)) await takeLine(found, visit, { line, path })
}

const readSmallFile = async (path: string): Promise<Uint8Array> => {
  const bytes = await readFile(path)
  if (bytes.byteLength <= MAX_FILE_BYTES) return bytes
  throw new Error(`it has ${bytes.byteLength} bytes, which no requirements file has`)
}

const takeLine = async (
  found: Found,
  visit: Visit,
  { line, path }: { line: RequirementLine; path: string },
): Promise<void> => {
  const source = { kind: 'file', file: visit.file, line: line.line } as const
  const warn = (code: ErrorCode, message: string, hint?: string) =>
    found.problems.push(
      problemAt(code, source, {
        subject: line.text,
        message,
        severity: 'warning',
        ...(hint === undefined ? {} : { hint }),
      }),
    )
  switch (line.kind) {
    case 'include':
    case 'constraint': {
      const kind = line.kind === 'constraint' ? 'constraint' : visit.kind
      if (/^[a-z+]+:\/\//i.test(line.text)) {
        warn('requirement_invalid', `${withoutLogin(line.text)} is not fetched`, 'Put the file on the box.')
        return
      }
      await readFileInto(found, {
        file: resolve(dirname(visit.file), line.text),
        kind,
        chain: [...visit.chain, { path, source }],
      })
      return
    }
    case 'direct':
      warn(
        'install_needs_build',
        `${withoutLogin(line.text)} is not installed: it is a place, not a name with wheels`,
        'Name what it brings under python.imports to be sure that nothing needs it.',
      )
      return
    case 'index':
      if (/^https:\/\/\S+$/i.test(line.text)) found.indexes.push(line.text)
      else warn('requirement_invalid', `the index ${withoutLogin(line.text)} is ignored: it is not https`)
      return
    case 'option':
      warn('requirement_invalid', `the option ${withoutLogin(line.text)} is ignored`)
      return
    case 'requirement': {
      if (line.ignored !== '')
        warn(
          'requirement_invalid',
          `${withoutLogin(line.ignored)} is ignored, as pip ignores it on such a line`,
        )
      const repaired = repairRequirement(line.text)
      if (repaired !== undefined) warn('requirement_invalid', `${line.text} was read as ${repaired}`)
      const list = visit.kind === 'constraint' ? found.constraints : found.requirements
      list.push({ text: repaired ?? line.text, source, hashes: line.hashes })
    }
  }
}

/** Takes user and password out of every address in a text. */
export const withoutLogin = (text: string): string => text.replaceAll(/\/\/[^/@\s]+@/g, '//')
