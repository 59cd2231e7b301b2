import type { ErrorCode } from 'yaml'

export type Position = { readonly line: number; readonly column: number }

/** Something wrong with the text itself, before anybody asks what it means. */
export type YamlProblem = Position & { readonly message: string; readonly hint: string }

const MAX_BYTES = 4 * 2 ** 20
/** The YAML package needs quadratic time for brackets and dashes that are opened and never closed. */
const MAX_OPEN_BRACKETS = 500
const MANY_INDICATORS = /^ *(?:[-?:] +){33}/m

/** The text of a manifest, or the one reason why it cannot be one. */
export const decodeManifest = (input: string | Uint8Array): string | YamlProblem => {
  const bytes = typeof input === 'string' ? Buffer.byteLength(input) : input.byteLength
  if (bytes > MAX_BYTES) {
    const hint = 'Check that this is the right file.'
    return {
      line: 1,
      column: 1,
      message: `the manifest has ${bytes} bytes; at most ${MAX_BYTES} are read`,
      hint,
    }
  }
  const text = typeof input === 'string' ? input : decodeUtf8(input)
  if (typeof text !== 'string') return text
  const control = text.search(FORBIDDEN_CHARACTERS)
  if (control !== -1) {
    const code = text.charCodeAt(control).toString(16).toUpperCase().padStart(4, '0')
    const hint = 'Save the manifest as plain UTF-8 text.'
    return { ...positionIn(text, control), message: `the character U+${code} is not allowed in YAML`, hint }
  }
  const deep = findRunaway(text)
  if (deep !== undefined) return { ...positionIn(text, deep), ...TOO_DEEP }
  return text
}

export const TOO_DEEP = {
  message: 'the manifest is nested too deeply',
  hint: 'A manifest needs six levels; look for a bracket that is not closed.',
} as const

// eslint-disable-next-line no-control-regex -- control characters are exactly what YAML forbids
const FORBIDDEN_CHARACTERS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/

const decodeUtf8 = (bytes: Uint8Array): string | YamlProblem => {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    // The replacement character stands where the first wrong byte is, unless the text holds one of its own before.
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
    return {
      ...positionIn(text, Math.max(0, text.indexOf('\ufffd'))),
      message: 'the manifest is not UTF-8',
      hint: 'Save it as UTF-8.',
    }
  }
}

/** Where nesting runs away, counted roughly (brackets in text count too): no manifest comes near these numbers. */
const findRunaway = (text: string): number | undefined => {
  const indicators = MANY_INDICATORS.exec(text)
  if (indicators) return indicators.index
  let open = 0
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index]
    if (character === '[' || character === '{') open += 1
    if (character === ']' || character === '}') open = Math.max(0, open - 1)
    if (open > MAX_OPEN_BRACKETS) return index
  }
  return undefined
}

const positionIn = (text: string, offset: number): Position => {
  const before = text.slice(0, offset)
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') }
}

/** What a message of the YAML package means for somebody who writes a manifest. */
export const explainYaml = (code: ErrorCode, message: string): { message: string; hint: string } =>
  EXPLAINED[code] ?? { message: `is not YAML: ${message}`, hint: 'Correct the YAML at this place.' }

const QUOTE = 'If this is text, put it in quotes.'
const EXPLAINED: Readonly<Partial<Record<ErrorCode, { message: string; hint: string }>>> = {
  TAB_AS_INDENT: { message: 'a tab is used for indentation', hint: 'Indent with spaces.' },
  BAD_INDENT: {
    message: 'the indentation does not fit what is above',
    hint: 'Start all entries of one list or map in the same column, and close every bracket.',
  },
  MULTIPLE_DOCS: {
    message: 'a second document starts here',
    hint: 'A manifest is one document: take the “---” out.',
  },
  BLOCK_AS_IMPLICIT_KEY: { message: 'a second “key: value” stands in one line', hint: QUOTE },
  BAD_SCALAR_START: { message: 'a value cannot start with this character', hint: QUOTE },
  MISSING_CHAR: {
    message: 'a quote, a bracket or a colon is missing before this',
    hint: 'Close what was opened; if this is text, put it in quotes.',
  },
  RESOURCE_EXHAUSTION: TOO_DEEP,
  TAG_RESOLVE_FAILED: { message: 'tags (“!…”) have no meaning in a manifest', hint: QUOTE },
  BAD_DIRECTIVE: { message: 'a “%” directive has no meaning in a manifest', hint: 'Take the line out.' },
}
