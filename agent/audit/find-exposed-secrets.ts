import type { Dirent } from 'node:fs'
import { constants } from 'node:fs'
import { open, opendir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../shared/contract/errors.ts'
import type { KnownSecret, Sighting } from './scan-text.ts'
import { scanFile, scanText } from './scan-text.ts'

/** Where to look, and where secrets may lie by design. */
export type SecretSearch = {
  readonly secrets: readonly KnownSecret[]
  /** Files and folders; folders are walked. What is not there is passed over. */
  readonly places: readonly string[]
  /** Files that may hold secrets: the declared ones and the agent's own. */
  readonly allowed: ReadonlySet<string>
  /** Folders that are not entered: models, environments. */
  readonly skipped: ReadonlySet<string>
  /** Takes other secrets out of the line that is shown. */
  readonly redact: (text: string) => string
}

export type SecretsFound = {
  readonly problems: readonly Problem[]
  readonly files: number
  /** True when there were more files than are looked at. */
  readonly cut: boolean
}

/** More than the sources of a hundred custom nodes; a folder with more is data. */
const MOST_FILES = 20_000
const MOST_PROBLEMS = 100
const DEEPEST = 10
/** Other people's code and git's own data; git's configuration is looked at, for addresses with a token in them. */
const SKIPPED_NAMES = new Set(['node_modules', '__pycache__', 'site-packages', 'objects', '.cache'])

/**
 * Looks for secrets in files and in the arguments of processes. Evidence is redacted; a value that is known is an
 * error, what only has a token's shape a warning. Follows no link and opens nothing for writing.
 */
export const findExposedSecrets = async (
  search: SecretSearch,
  signal: AbortSignal,
): Promise<SecretsFound> => {
  const problems = await scanArguments(search)
  let files = 0
  for await (const path of walk(search)) {
    if (files >= MOST_FILES || problems.length >= MOST_PROBLEMS) return { problems, files, cut: true }
    files += 1
    const found = await scanPath(path, { secrets: search.secrets, signal })
    if (found !== undefined) problems.push(exposed(`${path}:${found.line}`, found, search.redact))
  }
  return { problems, files, cut: false }
}

const scanPath = async (
  path: string,
  context: { readonly secrets: readonly KnownSecret[]; readonly signal: AbortSignal },
): Promise<Sighting | undefined> => {
  // Without O_NOATIME, which only the owner may ask for, at most the time of access changes.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  // Gone meanwhile, or not readable: then it exposes nothing to this account.
  const file = await open(path, flags).catch(() => undefined)
  if (file === undefined) return undefined
  try {
    return (await file.stat()).isFile() ? await scanFile(file, context) : undefined
  } finally {
    await file.close()
  }
}

async function* walk({ places, allowed, skipped }: SecretSearch): AsyncGenerator<string> {
  const seen = new Set<string>()
  const pending = places.map((path) => ({ path, depth: 0 }))
  for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
    const { path, depth } = next
    if (seen.has(path) || skipped.has(path)) continue
    seen.add(path)
    const entries = await listFolder(path)
    if (entries === undefined) {
      if (depth === 0 && !allowed.has(path)) yield path
      continue
    }
    if (entries.some(({ name }) => name === 'pyvenv.cfg')) continue
    for (const entry of entries) {
      const full = join(path, entry.name)
      if (entry.isFile() && !allowed.has(full)) {
        if (!seen.has(full)) yield full
        seen.add(full)
      } else if (entry.isDirectory() && depth < DEEPEST && !SKIPPED_NAMES.has(entry.name))
        pending.push({ path: full, depth: depth + 1 })
    }
  }
}

/** The entries of a folder by name, no more of them than files are looked at; undefined for what is no folder. */
const listFolder = async (path: string): Promise<readonly Dirent[] | undefined> => {
  const folder = await opendir(path).catch(() => undefined)
  if (folder === undefined) return undefined
  const entries: Dirent[] = []
  for await (const entry of folder) {
    entries.push(entry)
    if (entries.length > MOST_FILES) break
  }
  return entries.sort((one, other) => one.name.localeCompare(other.name))
}

/** Arguments are readable by every user of the machine. */
const scanArguments = async ({ secrets, redact }: SecretSearch): Promise<Problem[]> => {
  const problems: Problem[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const read = (file: string) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')
    const found = scanText((await read('cmdline')).replaceAll('\0', ' '), secrets)
    if (found !== undefined)
      problems.push(
        exposed(`the arguments of process ${pid} (${(await read('comm')).trim()})`, found, redact),
      )
  }
  return problems
}

const exposed = (where: string, { name, evidence }: Sighting, redact: SecretSearch['redact']): Problem => {
  const what = name === null ? 'what looks like a token stands' : `the secret ${name} stands`
  return problemFrom(
    new AgentError('secret_exposed', `${what} in ${where}: ${redact(evidence)}`),
    where,
    name === null ? 'warning' : 'error',
  )
}
