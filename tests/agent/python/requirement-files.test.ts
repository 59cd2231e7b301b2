import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readRequirementFiles } from '../../../agent/python/requirement-files.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'requirements-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true, force: true })
})

const write = (path: string, text: string): string => {
  mkdirSync(dirname(join(folder, path)), { recursive: true })
  writeFileSync(join(folder, path), text)
  return join(folder, path)
}
const read = (...patterns: string[]) =>
  readRequirementFiles({ patterns: patterns.map((pattern) => join(folder, pattern)), paths: [] })
const texts = (list: readonly { readonly text: string }[]) => list.map((one) => one.text)

describe('requirements files', () => {
  test('are read one by one and never joined as text (incident A2)', async () => {
    write('nodes/a/requirements.txt', 'onnxruntime-gpu')
    write('nodes/b/requirements.txt', 'insightface')
    write('nodes/c/requirements.txt', 'ftfy')
    const found = await read('nodes/*/requirements.txt')
    expect(texts(found.requirements)).toEqual(['onnxruntime-gpu', 'insightface', 'ftfy'])
    expect(found.problems).toEqual([])
    expect(found.requirements[2]!.source).toEqual({
      kind: 'file',
      file: join(folder, 'nodes/c/requirements.txt'),
      line: 1,
    })
  })

  test('include others relative to themselves, each counted once (case 29)', async () => {
    write('a.txt', '-r sub/b.txt\n-r sub/b.txt\nlast\n')
    const inner = write('sub/b.txt', 'first\n\nsecond')
    const found = await read('a.txt')
    expect(texts(found.requirements)).toEqual(['first', 'second', 'last'])
    expect(found.requirements[1]!.source).toEqual({ kind: 'file', file: inner, line: 3 })
  })

  test('that include each other are reported once, with file and line (case 29)', async () => {
    write('a.txt', 'x\n-r b.txt\n')
    const b = write('b.txt', 'y\n-r a.txt\n')
    const found = await read('a.txt')
    expect(texts(found.requirements)).toEqual(['x', 'y'])
    expect(found.problems).toMatchObject([
      { code: 'requirement_invalid', severity: 'warning', at: { file: b, line: 2 } },
    ])
  })

  test('keep the bounds of -c apart from what they ask for', async () => {
    write('a.txt', '-c c.txt\nnumpy\n')
    write('c.txt', 'numpy<2\n-r d.txt\n')
    write('d.txt', 'scipy<1.15\n')
    const found = await read('a.txt')
    expect(texts(found.requirements)).toEqual(['numpy'])
    expect(texts(found.constraints)).toEqual(['numpy<2', 'scipy<1.15'])
  })

  test('never drop a line silently: places, options and odd indexes are named (case 45)', async () => {
    const file = write(
      'a.txt',
      'git+https://user:secret@example.com/x.git\n-e .\n--index-url https://i.example\n' +
        '--extra-index-url http://plain.example\n--extra-index-url https://good.example/whl\n',
    )
    const found = await read('a.txt')
    expect(found.problems.map((problem) => [problem.code, problem.at?.line])).toEqual([
      ['install_needs_build', 1],
      ['install_needs_build', 2],
      ['requirement_invalid', 3],
      ['requirement_invalid', 4],
    ])
    expect(found.problems[0]!.message).toContain(`${file}:1`)
    expect(found.problems[0]!.message).not.toContain('secret')
    expect(found.indexes).toEqual(['https://good.example/whl'])
  })

  test('that are missing are an error by name, but not where a pattern finds nothing', async () => {
    const found = await read('none/*.txt', 'missing.txt')
    expect(found.problems).toMatchObject([
      { code: 'requirement_invalid', severity: 'error', subject: join(folder, 'missing.txt') },
    ])
  })

  test('say how a line was mended (case 31)', async () => {
    write('a.txt', 'numpy<1.24>=1.18\n')
    const found = await read('a.txt')
    expect(texts(found.requirements)).toEqual(['numpy<1.24,>=1.18'])
    expect(found.problems).toMatchObject([{ severity: 'warning', at: { line: 1 } }])
    expect(found.problems[0]!.message).toContain('was read as numpy<1.24,>=1.18')
  })
})
