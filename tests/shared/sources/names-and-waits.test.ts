import { expect, test } from 'vitest'
import { fileNameFrom } from '../../../shared/sources/file-name.ts'
import { isWanted } from '../../../shared/sources/match-names.ts'
import { askedDelayMs } from '../../../shared/sources/retry-after.ts'

const now = new Date('2026-11-21T12:00:00Z')

test.each([
  { name: 'case 47: Retry-After in seconds', headers: { 'retry-after': '7' }, ms: 7_000 },
  {
    name: 'case 48: Retry-After as a date',
    headers: { 'retry-after': 'Sat, 21 Nov 2026 12:00:30 GMT' },
    ms: 30_000,
  },
  {
    name: 'case 48: a date that has passed',
    headers: { 'retry-after': 'Sat, 21 Nov 2026 11:00:00 GMT' },
    ms: 0,
  },
  { name: 'Retry-After that is neither', headers: { 'retry-after': 'soon' }, ms: undefined },
  {
    name: 'case 46: a limit that is not used up is not what refused',
    headers: { ratelimit: '"resolvers";r=12;t=55' },
    ms: undefined,
  },
  {
    name: 'case 45: a limit that is used up',
    headers: { ratelimit: '"resolvers";r=0;t=55' },
    ms: 56_000,
  },
])('$name asks to wait $ms ms', ({ headers, ms }) => {
  expect(askedDelayMs(headers, now)).toBe(ms)
})

const original = 'https://example.com/files/model%20one.safetensors?download=true'
test.each([
  { disposition: 'attachment; filename="../../x"', name: 'x' },
  { disposition: String.raw`attachment; filename="a\\b"`, name: 'b' },
  { disposition: "attachment; filename*=UTF-8''na%C3%AFve.gguf; filename=other", name: 'naïve.gguf' },
  { disposition: 'attachment; filename=plain.bin;', name: 'plain.bin' },
  { disposition: 'attachment; filename=""', name: 'model one.safetensors' },
  { disposition: 'attachment; filename=".."', name: 'model one.safetensors' },
  { disposition: 'attachment', name: 'model one.safetensors' },
  { disposition: undefined, name: 'model one.safetensors' },
])('cases 72 and 73: the name is $name with Content-Disposition $disposition', ({ disposition, name }) => {
  const final = 'https://cdn.example.com/0a1b2c?Signature=x'
  const headers = disposition === undefined ? {} : { 'content-disposition': disposition }
  expect(fileNameFrom({ original, final }, headers)).toBe(name)
})

test.each([
  { path: 'a/b/c.json', include: ['*.json'], exclude: [], wanted: true },
  { path: 'general/x', include: ['general/**'], exclude: [], wanted: true },
  { path: 'general/x/y', include: ['general/'], exclude: [], wanted: true },
  { path: 'generals/x', include: ['general/'], exclude: [], wanted: false },
  { path: 'a.bin', include: [], exclude: ['*.b?n'], wanted: false },
  { path: 'shard-1.gguf', include: ['shard-[12].gguf'], exclude: [], wanted: true },
  { path: 'shard-3.gguf', include: ['shard-[!3].gguf'], exclude: [], wanted: false },
  { path: 'a-b.txt', include: ['[z-a]*'], exclude: [], wanted: false },
  { path: 'a-b.txt', include: ['[!z-a]*'], exclude: [], wanted: true },
  { path: 'a-b.txt', include: ['a[+--]b.*'], exclude: [], wanted: true },
  { path: 'a+b.txt', include: ['a+b.txt'], exclude: [], wanted: true },
])('$path is wanted of $include without $exclude: $wanted', ({ path, include, exclude, wanted }) => {
  expect(isWanted(path, { include, exclude })).toBe(wanted)
})
