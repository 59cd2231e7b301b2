import { expect, test } from 'vitest'
import { nearestKey } from '../../../shared/manifest/nearest-key.ts'

const KNOWN = ['to', 'from', 'sha256', 'size', 'allow_pickle', 'max_price', 'downloads']

test.each([
  { word: 'frm', meant: 'from', why: 'a letter is missing' },
  { word: 'form', meant: 'from', why: 'two letters are swapped' },
  { word: 'downlaods', meant: 'downloads', why: 'two letters are swapped in a long word' },
  { word: 'allow-pickle', meant: 'allow_pickle', why: 'a minus stands for an underscore' },
  { word: 'maxPrice', meant: 'max_price', why: 'it is written in camel case' },
  { word: 'SHA256', meant: 'sha256', why: 'it is written in capitals' },
  { word: 'source', meant: undefined, why: 'it is another word' },
  { word: 'x', meant: undefined, why: 'nothing is left of it' },
  { word: 'downloads'.repeat(100), meant: undefined, why: 'nobody writes that by mistake' },
])('“$word” means $meant because $why', ({ word, meant }) => {
  expect(nearestKey(word, KNOWN)).toBe(meant)
})
