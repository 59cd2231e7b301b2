import { describe, expect, test } from 'vitest'
import { repairRequirement } from '../../../agent/python/repair-requirement.ts'
import { decodeText, readRequirementLines } from '../../../agent/python/requirement-lines.ts'

const read = (text: string) => readRequirementLines(Buffer.from(text))
const names = (bytes: Uint8Array) => readRequirementLines(bytes).map((line) => line.text)

describe('the lines of a requirements file', () => {
  test.each([
    ['UTF-8 with a byte order mark, CRLF, no final newline', Buffer.from('\ufeffnumpy>=1\r\ntorch==2.0')],
    ['UTF-16 little endian', Buffer.from('\ufeffnumpy>=1\r\ntorch==2.0\r\n', 'utf16le')],
    ['UTF-16 big endian', Buffer.from('\ufeffnumpy>=1\ntorch==2.0', 'utf16le').swap16()],
    ['old Macintosh line ends', Buffer.from('numpy>=1\rtorch==2.0\r')],
    [
      'Latin-1 by its coding comment',
      Buffer.from('# -*- coding: latin-1 -*- \xe9\nnumpy>=1\ntorch==2.0', 'latin1'),
    ],
    ['bytes that are no UTF-8 in a comment', Buffer.from('numpy>=1 # caf\xe9\ntorch==2.0', 'latin1')],
  ])('are read from %s (case 28)', (_, bytes) => {
    expect(names(bytes)).toEqual(['numpy>=1', 'torch==2.0'])
  })

  test('are read from UTF-32', () => {
    const bytes = Buffer.alloc(4 + 4 * 5)
    bytes.writeUInt32LE(0xfeff, 0)
    for (const [index, letter] of Buffer.from('numpy').entries()) bytes.writeUInt32LE(letter, 4 + 4 * index)
    expect(decodeText(bytes)).toBe('numpy')
  })

  test('lose their comments, but not the fragment of an address (case 29)', () => {
    const lines = read(
      'numpy # why\n#torch\n  # indented\ngit+https://example.com/x/y@main#subdirectory=p  # c\n',
    )
    expect(lines).toEqual([
      { kind: 'requirement', line: 1, text: 'numpy', hashes: [], ignored: '' },
      { kind: 'direct', line: 4, text: 'git+https://example.com/x/y@main#subdirectory=p' },
    ])
  })

  test('go on after a backslash, with their hashes, under the number of their first line (case 29)', () => {
    const lines = read('a\nbar==1.0 \\\n    --hash=sha256:bb \\\n    --hash sha256:cc\nnumpy>=1,\\\n<2\n')
    expect(lines).toEqual([
      { kind: 'requirement', line: 1, text: 'a', hashes: [], ignored: '' },
      { kind: 'requirement', line: 2, text: 'bar==1.0', hashes: ['sha256:bb', 'sha256:cc'], ignored: '' },
      { kind: 'requirement', line: 5, text: 'numpy>=1,<2', hashes: [], ignored: '' },
    ])
  })

  test('do not go on through a comment that ends with a backslash', () => {
    expect(names(Buffer.from('numpy \\\n# comment \\\ntorch\n'))).toEqual(['numpy', 'torch'])
  })

  test('ignore an index on the line of a requirement (case 32)', () => {
    expect(read('torch --index-url https://evil.example')).toEqual([
      {
        kind: 'requirement',
        line: 1,
        text: 'torch',
        hashes: [],
        ignored: '--index-url https://evil.example',
      },
    ])
  })

  test.each([
    ['-r other.txt', 'include', 'other.txt'],
    ['-rother.txt', 'include', 'other.txt'],
    ['--requirement=other.txt', 'include', 'other.txt'],
    ['--requirement "my file.txt"', 'include', 'my file.txt'],
    ['-c bounds.txt', 'constraint', 'bounds.txt'],
    ['-e .', 'direct', '.'],
    ['--editable git+https://example.com/x.git#egg=x', 'direct', 'git+https://example.com/x.git#egg=x'],
    ['--extra-index-url https://example.com/whl', 'index', 'https://example.com/whl'],
    ['--index-url https://example.com', 'option', '--index-url https://example.com'],
    ['--pre', 'option', '--pre'],
    ['-r', 'option', '-r'],
    ['./local.whl', 'direct', './local.whl'],
    ['local-1.0-py3-none-any.whl', 'direct', 'local-1.0-py3-none-any.whl'],
    ['https://example.com/a-1.0-py3-none-any.whl', 'direct', 'https://example.com/a-1.0-py3-none-any.whl'],
    ['foo @ git+https://example.com/x/y@abc', 'direct', 'foo @ git+https://example.com/x/y@abc'],
    ['git+https://example.com/x/y', 'direct', 'git+https://example.com/x/y'],
    ['torch ; python_version>"3"', 'requirement', 'torch ; python_version>"3"'],
  ])('tell %s apart (case 45)', (text, kind, value) => {
    expect(read(text)).toMatchObject([{ kind, text: value }])
  })
})

describe('a slip in a requirement (case 31)', () => {
  test.each([
    ['numpy<1.24>=1.18', 'numpy<1.24,>=1.18'],
    ['opencv-python>=4.7.0.*', 'opencv-python>=4.7.0'],
    ['torch>=2.0+cu118', 'torch>=2.0'],
    ['a[b]>=1<2 ; python_version >= "3.9"', 'a[b]>=1,<2 ; python_version >= "3.9"'],
  ])('%s is mended to %s', (text, mended) => {
    expect(repairRequirement(text)).toBe(mended)
  })

  test.each([
    ['numpy=1.2'],
    ['torch==2.0+cu118'],
    ['a==1.26.*'],
    ['a>=1,<2'],
    ['a; python_version>"3"'],
    ['foo3>=1'],
  ])('%s is left as it is', (text) => {
    expect(repairRequirement(text)).toBeUndefined()
  })
})
