/*
 * Requirements files, read with the line rules of pip. Files are read one by one: joining them as text once made
 * “onnxruntime-gpuinsightfaceftfy” out of three files without a final newline, and every custom node failed.
 */

/** One logical line; `line` is where it starts, counted from 1. */
export type RequirementLine = { readonly line: number } & (
  | {
      readonly kind: 'requirement'
      readonly text: string
      readonly hashes: readonly string[]
      readonly ignored: string
    }
  /** A place instead of a name: VCS, URL, path or editable. */
  | { readonly kind: 'direct'; readonly text: string }
  | { readonly kind: 'include' | 'constraint' | 'index'; readonly text: string }
  | { readonly kind: 'option'; readonly text: string }
)

/** The logical lines of one file's bytes. */
export const readRequirementLines = (bytes: Uint8Array): RequirementLine[] =>
  joinLines(decodeText(bytes)).flatMap(({ line, text }) => {
    // “#egg=” and “#subdirectory=” stay: a comment starts the line or follows a space.
    const content = text.replace(/(^|\s+)#.*$/, '').trim()
    return content === '' ? [] : [readLine(content, line)]
  })

/** Byte order marks first, then the coding comment of PEP 263, then UTF-8; what is none of them is read as Latin-1. */
export const decodeText = (bytes: Uint8Array): string => {
  const starts = (...mark: number[]): boolean => mark.every((byte, index) => bytes[index] === byte)
  if (starts(0xff, 0xfe, 0, 0)) return decodeUtf32(bytes, true)
  if (starts(0, 0, 0xfe, 0xff)) return decodeUtf32(bytes, false)
  if (starts(0xff, 0xfe)) return new TextDecoder('utf-16le').decode(bytes)
  if (starts(0xfe, 0xff)) return new TextDecoder('utf-16be').decode(bytes)
  const head = new TextDecoder('latin1').decode(bytes.subarray(0, 400)).split('\n').slice(0, 2)
  const coding = head.map((line) => /^#.*?coding[:=]\s*([-\w.]+)/.exec(line)?.[1]).find(Boolean)
  for (const encoding of [coding, 'utf-8', 'latin1'])
    try {
      if (encoding !== undefined) return new TextDecoder(encoding, { fatal: true }).decode(bytes)
    } catch {
      // Not this encoding, or one nobody knows: the next is tried, and Latin-1 reads anything.
    }
  return ''
}

const decodeUtf32 = (bytes: Uint8Array, littleEndian: boolean): string => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let text = ''
  for (let at = 4; at + 4 <= bytes.byteLength; at += 4) {
    const point = view.getUint32(at, littleEndian)
    text += point > 0x10_ffff ? '\ufffd' : String.fromCodePoint(point)
  }
  return text
}

const joinLines = (text: string): { line: number; text: string }[] => {
  const joined: { line: number; text: string }[] = []
  let open: { line: number; text: string } | undefined
  // The line ends of Python's str.splitlines, which pip uses.
  // eslint-disable-next-line no-control-regex -- they are line ends in Python
  for (const [index, raw] of text.split(/\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/).entries()) {
    const comment = /^\s*#/.test(raw)
    // A comment ends a continued line; the space keeps it from sticking to what came before.
    const content = comment ? ` ${raw}` : raw
    open = open === undefined ? { line: index + 1, text: content } : { ...open, text: open.text + content }
    if (raw.endsWith('\\') && !comment) {
      open.text = open.text.slice(0, -1)
      continue
    }
    joined.push(open)
    open = undefined
  }
  if (open !== undefined) joined.push(open)
  return joined
}

const OPTIONS: Readonly<Record<string, RequirementLine['kind']>> = {
  '-r': 'include',
  '--requirement': 'include',
  '-c': 'constraint',
  '--constraint': 'constraint',
  '-e': 'direct',
  '--editable': 'direct',
  '--extra-index-url': 'index',
}

const readLine = (content: string, line: number): RequirementLine => {
  const tokens = content.split(/\s+/)
  const firstOption = tokens.findIndex((token) => token.startsWith('-'))
  if (firstOption === 0) return readOption(content, line)
  const text = (firstOption < 0 ? tokens : tokens.slice(0, firstOption)).join(' ')
  if (isDirectRequirement(text)) return { kind: 'direct', line, text }
  const options = firstOption < 0 ? '' : tokens.slice(firstOption).join(' ')
  return {
    kind: 'requirement',
    line,
    text,
    hashes: [...options.matchAll(/--hash[= ](\S+)/g)].map((match) => match[1] ?? ''),
    // pip takes no other option on the line of a requirement; “torch --index-url X” is plain “torch”.
    ignored: options.replaceAll(/--(hash|config-settings)[= ]\S+/g, '').trim(),
  }
}

const readOption = (content: string, line: number): RequirementLine => {
  const match = /^(--[a-z-]+|-[a-z])(?:\s*=\s*|\s+|)(.*)$/i.exec(content)
  const kind = OPTIONS[match?.[1] ?? ''] ?? 'option'
  const value = (match?.[2] ?? '').replace(/^(['"])(.*)\1$/, '$2')
  if (kind === 'requirement' || kind === 'option' || value === '')
    return { kind: 'option', line, text: content }
  return { kind, line, text: value }
}

/** True for what names a place (VCS, address, path, archive) instead of a dist. */
export const isDirectRequirement = (text: string): boolean =>
  /^(git|hg|svn|bzr)\+|^(https?|file|ftp):/i.test(text) ||
  /^[^@;]*@\s*[a-z+]+:/i.test(text) ||
  /^(\.{1,2}\/|\/|~\/|\.$)/.test(text) ||
  /^[^;\s<>=]+\.(whl|tar\.gz|zip)$/i.test(text)
