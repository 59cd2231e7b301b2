import { AgentError } from '../../contract/errors.ts'
import type { Imported, ImportedFile, LeftBehind } from './imported.ts'
import { folderOf, importSource, nameOfSource } from './imported.ts'

/*
 * The list form of provisioning scripts: lines `url|fallback url|file name`, as plain text or as entries of shell arrays
 * (`VIDEO_MODELS=( "…" )`). Arrays of git addresses are custom nodes. A script around the arrays is not run.
 */

/** Reads a list; what else the text holds is left behind, line by line. */
export const importList = (text: string): Imported => {
  const files: ImportedFile[] = []
  const nodes: { git: string; ref: string }[] = []
  const leftBehind: LeftBehind[] = []
  let array: string | undefined
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = index + 1
    const { name, content, closes } = readLine(raw, array)
    array = name
    for (const entry of entriesOf(content, array !== undefined)) {
      const leave = (why: string): void => void leftBehind.push({ line, what: shorten(entry), why })
      if (!isEntry(entry)) {
        if (array !== undefined || looksMeant(entry)) leave(whyNot(array))
      } else if (isRepository(entry)) {
        nodes.push({ git: entry.replace(/\.git$/, ''), ref: 'main' })
        leave('a list gives no ref, so main is assumed: pin the commit that you want')
      } else {
        addFile(entry, { array, files, leave })
      }
    }
    if (closes) array = undefined
  }
  return {
    files,
    snapshots: [],
    nodes,
    secrets: { required: [], optional: [] },
    python: null,
    processes: {},
    leftBehind,
  }
}

const addFile = (
  entry: string,
  context: {
    readonly array: string | undefined
    readonly files: ImportedFile[]
    readonly leave: (why: string) => void
  },
): void => {
  const parts = entry
    .split('|')
    .map((part) => part.trim())
    .filter(Boolean)
  const addresses = parts.filter((part) => /^\w+:\/\//.test(part))
  const named = parts.find((part) => !addresses.includes(part))
  const from: string[] = []
  for (const address of addresses) {
    try {
      const source = importSource(address)
      if (!from.includes(source)) from.push(source)
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      context.leave(`${shorten(address)}: ${error.message}`)
    }
  }
  const [first] = from
  if (first === undefined) return
  const name = named ?? nameOfSource(first)
  if (name === undefined) {
    context.leave('no file name is given, and the address ends in none: add |name')
    return
  }
  const folder = name.includes('/') ? undefined : folderOf(context.array, first)
  if (folder === undefined && !name.includes('/'))
    context.leave(`its folder under models is not known, so it goes to ${name}: correct its “to”`)
  context.files.push({ to: folder === undefined ? name : `${folder}/${name}`, from })
}

/** Which array a line is in, and what of it is content. */
const readLine = (
  raw: string,
  array: string | undefined,
): { readonly name: string | undefined; readonly content: string; readonly closes: boolean } => {
  const line = raw
    .replace(/^\ufeff/, '')
    .replace(/(^|\s)#.*$/, '')
    .trim()
  const opened = /^(?:declare\s+-a\s+|local\s+|export\s+)?([A-Za-z_]\w*)\+?=\((.*)$/.exec(line)
  const name = opened ? opened[1] : array
  const rest = opened ? (opened[2] ?? '') : line
  const closes = name !== undefined && /\)\s*$/.test(rest)
  return { name, content: closes ? rest.replace(/\)\s*$/, '') : rest, closes }
}

/** In an array several quoted entries may stand in a line; plain text has one a line. */
const entriesOf = (content: string, isArray: boolean): readonly string[] => {
  if (content.trim() === '') return []
  const quoted = [...content.matchAll(/"([^"]*)"|'([^']*)'/g)].map((match) => match[1] ?? match[2] ?? '')
  if (quoted.length > 0) return quoted
  return isArray ? content.trim().split(/\s+/) : [content.trim()]
}

const isEntry = (entry: string): boolean => /^(https?|hf|civitai):\/\//.test(entry)

const isRepository = (entry: string): boolean =>
  !entry.includes('|') &&
  /^https:\/\/(?:github|gitlab|codeberg)\.(?:com|org)\/[^/\s]+\/[^/\s]+?(?:\.git)?\/?$/.test(entry)

/** Lines of a script that speak of what a manifest has a place for. */
const looksMeant = (line: string): boolean => /\b(pip|apt-get|apt|git clone|wget|curl|aria2c)\b/.test(line)

const whyNot = (array: string | undefined): string => {
  if (array === undefined) return 'commands of a script are not carried over'
  if (/apt/i.test(array)) return 'packages of the system belong into the image'
  if (/pip/i.test(array)) return 'add it under python.install, with python.interpreter'
  return `${array} is no list of addresses`
}

const shorten = (text: string): string => {
  const safe = text.replace(/([?&](?:token|key|api_?key|sig|signature)=)[^&|\s"']+/gi, '$1…')
  return safe.length > 120 ? `${safe.slice(0, 117)}…` : safe
}
