import { expect, test } from 'vitest'
import { createOutputStripper, stripOutput } from '../../../agent/processes/strip-output.ts'

const CASES = [
  { what: 'colours', raw: '\x1b[1;31mred\x1b[0m', clean: 'red' },
  { what: 'cursor moves and clearing', raw: 'a\x1b[2K\x1b[1Gb\x1b[?25lc', clean: 'abc' },
  { what: 'a title', raw: '\x1b]0;title\x07text', clean: 'text' },
  { what: 'a write to the clipboard (OSC 52)', raw: '\x1b]52;c;cHduZWQ=\x1b\\text', clean: 'text' },
  { what: 'a link', raw: '\x1b]8;;http://evil\x1b\\here\x1b]8;;\x1b\\', clean: 'here' },
  { what: 'device control (DCS)', raw: '\x1bP$q"p\x1b\\text', clean: 'text' },
  { what: 'APC, PM and SOS', raw: '\x1b_G1\x1b\\a\x1b^pm\x1b\\b\x1bXsos\x1b\\c', clean: 'abc' },
  { what: 'one-byte forms', raw: '\x9b31mred\x9d0;title\x9c.\x90q\x9c', clean: 'red.' },
  { what: 'character sets and resets', raw: '\x1b(Ba\x1bcb\x1b=c', clean: 'abc' },
  { what: 'carriage returns', raw: 'a\r\nb\r\r\nc\rd', clean: 'a\nb\nc\nd' },
  { what: 'control characters', raw: 'a\x00b\x07c\x08d\x7fe\tf\n', clean: 'abcde\tf\n' },
  { what: 'turned reading direction', raw: 'a\u202eb\u2066c\u200fd', clean: 'abcd' },
  { what: 'other languages', raw: 'größe 漢字 🎬', clean: 'größe 漢字 🎬' },
]

test.each(CASES)('T45: $what', ({ raw, clean }) => {
  expect(stripOutput(raw)).toBe(clean)
})

test.each(CASES)('T45: $what, cut at every byte', ({ raw, clean }) => {
  const stripper = createOutputStripper()
  const pieces = [...Buffer.from(`<${raw}>`)].map((byte) => stripper.push(Buffer.from([byte])))
  expect(pieces.join('') + stripper.end()).toBe(`<${clean}>`)
})

test('a sequence that never ends does not hold back what follows for ever', () => {
  const stripper = createOutputStripper()
  let text = stripper.push(Buffer.from('before\x1b]0;'))
  for (let index = 0; index < 20; index += 1) text += stripper.push(Buffer.from('x'.repeat(1_000)))
  text += stripper.push(Buffer.from('\nafter\n'))
  expect(text).toContain('before')
  expect(text).toContain('after')
})
