import { expect, test } from 'vitest'
import { parseRange } from '../../../agent/http/parse-range.ts'

test.each([
  ['bytes=0-', { start: 0, end: 9 }],
  ['bytes=3-5', { start: 3, end: 5 }],
  ['bytes=8-100', { start: 8, end: 9 }],
  ['bytes=-4', { start: 6, end: 9 }],
  ['bytes=-100', { start: 0, end: 9 }],
  ['bytes=10-', 'unsatisfiable'],
  ['bytes=5-3', 'unsatisfiable'],
  ['bytes=0-1,4-5', 'whole'],
  ['lines=1-2', 'whole'],
  ['bytes=-', 'whole'],
  ['bytes=a-b', 'whole'],
])('of ten bytes, %s is %j', (header, expected) => {
  expect(parseRange(header, 10)).toEqual(expected)
})
