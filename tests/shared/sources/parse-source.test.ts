import { expect, test } from 'vitest'
import { joinInside } from '../../../agent/platform/files.ts'
import { formatSource, parseSource } from '../../../shared/sources/parse-source.ts'

test.each([
  ['hf://a/b@main/x/y.safetensors', 'hf://a/b@main/x/y.safetensors'],
  ['hf://a/b/x.json', 'hf://a/b@main/x.json'],
  ['hf://datasets/a/b@refs/pr/3/x', 'hf://datasets/a/b@refs/pr/3/x'],
  ['https://huggingface.co/a/b/resolve/main/x.bin?download=true', 'hf://a/b@main/x.bin'],
  ['https://huggingface.co/spaces/a/b/blob/v1/dir%20one/x', 'hf://spaces/a/b@v1/dir one/x'],
  ['https://huggingface.co/a/b/resolve/refs%2Fpr%2F3/x', 'hf://a/b@refs/pr/3/x'],
  ['https://huggingface.co/a/b/resolve/feature%2Fone/x', 'hf://a/b@feature%2Fone/x'],
  ['hf://a/b@feature%2Fone/x', 'hf://a/b@feature%2Fone/x'],
  ['civitai://versions/12', 'civitai://versions/12'],
  ['civitai://versions/12?fileId=7&token=s', 'civitai://versions/12?fileId=7'],
  ['https://civitai.com/api/download/models/12?type=Model&token=s', 'civitai://versions/12?type=Model'],
  ['https://example.com/x?token=s&v=2#top', 'https://example.com/x?v=2'],
])('%s is %s (case 35: without a token)', (text, canonical) => {
  expect(formatSource(parseSource(text))).toBe(canonical)
})

test.each([
  'ftp://example.com/x',
  'hf://a',
  'civitai://models/3',
  'https://user:pass@example.com/x',
  'hf://a/b/../../etc/passwd',
  'hf://a/b/x\\..\\y',
  'hf://a/b/x//y',
])('%s is refused', (text) => {
  expect(() => parseSource(text)).toThrow()
})

test.each([
  '../../../etc/passwd',
  'folder/../../../etc/passwd',
  String.raw`..\..\Windows\evil`,
  String.raw`folder\..\..\evil`,
  '/etc/passwd',
  String.raw`C:\Windows\System32\evil`,
  'C:/Windows/System32/evil',
  String.raw`D:relative\evil`,
  String.raw`\\attacker\share\evil`,
  String.raw`\evil`,
  String.raw`folder/C:\Windows\evil`,
  String.raw`folder/\\attacker\share\evil`,
  String.raw`folder/\evil`,
])('case 76: %s is neither a path in a repository nor a destination', (path) => {
  expect(() => joinInside('/models', path)).toThrow(/does not stay inside/)
  expect(() => parseSource(`hf://a/b@main/${path}`)).toThrow()
})

test('a moved hub’s own addresses are recognised too', () => {
  const endpoints = { hf: 'http://127.0.0.1:99', civitai: 'https://civitai.com' }
  const parsed = parseSource('http://127.0.0.1:99/a/b/resolve/main/x', { endpoints })
  expect(parsed).toMatchObject({ kind: 'hf', repo: 'a/b', path: 'x' })
})
