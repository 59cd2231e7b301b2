import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'

export type WheelOptions = {
  readonly name: string
  readonly version: string
  /** Path → content; by default a package of the wheel's name that knows its version. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>
  readonly requires?: readonly string[]
  /** Which Pythons and machines accept the wheel. */
  readonly tag?: string
  readonly requiresPython?: string
  readonly entryPoints?: string
}

/** Writes a real wheel that pip installs, and returns its path. Same options, same bytes. */
export const makeWheel = (options: WheelOptions, folder: string): string => {
  const { name, version, requires = [], tag = 'py3-none-any' } = options
  const dist = name.replace(/[-_.]+/g, '_').toLowerCase()
  const info = `${dist}-${version}.dist-info`
  const metadata = [
    'Metadata-Version: 2.1',
    `Name: ${name}`,
    `Version: ${version}`,
    ...requires.map((one) => `Requires-Dist: ${one}`),
    ...(options.requiresPython === undefined ? [] : [`Requires-Python: ${options.requiresPython}`]),
  ]
  const files: Record<string, string | Uint8Array> = {
    ...(options.files ?? { [`${dist}/__init__.py`]: `__version__ = '${version}'\n` }),
    [`${info}/METADATA`]: `${metadata.join('\n')}\n`,
    [`${info}/WHEEL`]: `Wheel-Version: 1.0\nGenerator: make-wheel\nRoot-Is-Purelib: ${tag.endsWith('-any')}\nTag: ${tag}\n`,
    ...(options.entryPoints === undefined ? {} : { [`${info}/entry_points.txt`]: options.entryPoints }),
  }
  const entries = Object.entries(files).map(([path, content]) => ({ path, data: Buffer.from(content) }))
  const record = entries.map(({ path, data }) => {
    const hash = createHash('sha256').update(data).digest('base64url')
    return `${path},sha256=${hash},${data.length}`
  })
  record.push(`${info}/RECORD,,`)
  entries.push({ path: `${info}/RECORD`, data: Buffer.from(`${record.join('\n')}\n`) })
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${dist}-${version}-${tag}.whl`)
  writeFileSync(path, makeZip(entries))
  return path
}

/** 1 January 2020, as a zip writes dates. */
const DATE = ((2020 - 1980) << 9) | (1 << 5) | 1

/** A zip whose entries are stored as they are: all that a wheel needs. */
export const makeZip = (entries: readonly { readonly path: string; readonly data: Buffer }[]): Buffer => {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let offset = 0
  for (const { path, data } of entries) {
    const name = Buffer.from(path)
    const shared = Buffer.alloc(26)
    shared.writeUInt16LE(20, 0) // version needed
    shared.writeUInt16LE(0x0800, 2) // names are UTF-8
    shared.writeUInt16LE(DATE, 8)
    shared.writeUInt32LE(crc32(data), 10)
    shared.writeUInt32LE(data.length, 14)
    shared.writeUInt32LE(data.length, 18)
    shared.writeUInt16LE(name.length, 22)
    parts.push(Buffer.from('PK\x03\x04', 'latin1'), shared, name, data)
    const central = Buffer.alloc(14)
    central.writeUInt32LE(0o100644 * 0x10000, 6) // mode
    central.writeUInt32LE(offset, 10)
    directory.push(Buffer.from('PK\x01\x02\x14\x03', 'latin1'), shared, central, name)
    offset += 30 + name.length + data.length
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(entries.length, 4)
  end.writeUInt16LE(entries.length, 6)
  end.writeUInt32LE(size, 8)
  end.writeUInt32LE(offset, 12)
  return Buffer.concat([...parts, ...directory, Buffer.from('PK\x05\x06', 'latin1'), end])
}
