import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateRawSync } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { withZip } from '../../../agent/python/zip-archive.ts'
import { makeZip } from '../../support/wheels/make-wheel.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'zip-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const STORED = { path: 'lib/a.so', data: Buffer.from('the content') }

/** A zip of one deflated file whose directory says `saidBytes` for what it holds. */
const deflated = (content: Buffer, saidBytes: number): Buffer => {
  const zip = makeZip([{ path: 'lib/a.so', data: deflateRawSync(content) }])
  const central = zip.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'))
  for (const header of [0 + 8, central + 10]) zip.writeUInt16LE(8, header)
  for (const size of [0 + 22, central + 24]) zip.writeUInt32LE(saidBytes, size)
  return zip
}
const extractAll = async (zip: Buffer): Promise<void> => {
  const path = join(folder, 'a.whl')
  writeFileSync(path, zip)
  await withZip(path, async (opened) => {
    for (const entry of opened.entries) await opened.extract(entry, join(folder, 'out', 'a.so'))
  })
}

test('what is stored and what is deflated comes out', async () => {
  await extractAll(makeZip([STORED]))
  await extractAll(deflated(Buffer.alloc(1_000_000, 'x'), 1_000_000))
})

test.each([
  { what: 'holds a thousand times what it says', zip: () => deflated(Buffer.alloc(50_000_000), 50_000) },
  { what: 'has a directory that is longer than itself', zip: () => makeZip([STORED]).subarray(0, -30) },
  {
    what: 'has a file beyond its end',
    zip: () => {
      const zip = makeZip([STORED])
      zip.writeUInt32LE(0xffff_fff0, zip.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1')) + 42)
      return zip
    },
  },
  {
    what: 'is deflated in name only',
    zip: () => {
      const zip = deflated(Buffer.from('a'), 1)
      zip.fill(0xff, 30 + 'lib/a.so'.length, 30 + 'lib/a.so'.length + 3)
      return zip
    },
  },
])('T36: a wheel that $what is refused', async ({ zip }) => {
  await expect(extractAll(zip())).rejects.toMatchObject({ code: 'install_failed' })
})

test('T36: an archive that was cut off in the middle of a file is refused', async () => {
  const whole = deflated(Buffer.from(Array.from({ length: 5_000 }, (_, at) => at * 7)), 5_000)
  const central = whole.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'))
  whole.writeUInt32LE(100, central + 20)
  await expect(extractAll(whole)).rejects.toMatchObject({ code: 'install_failed' })
  expect(existsSync(join(folder, 'lib'))).toBe(false)
})
