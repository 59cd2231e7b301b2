export type Section = { readonly name: string; readonly data: Buffer }

const HEAD_BYTES = 64

/** Puts sections behind an object, with the table that names them. */
export const appendSections = (object: Buffer, sections: readonly Section[]): Buffer => {
  const names = Buffer.from(`\0${[...sections.map(({ name }) => name), '.shstrtab'].join('\0')}\0`)
  const parts = [object]
  let offset = object.length
  const headers = [Buffer.alloc(HEAD_BYTES)]
  for (const { name, data } of [...sections, { name: '.shstrtab', data: names }]) {
    const padding = Buffer.alloc((8 - (offset % 8)) % 8)
    offset += padding.length
    const header = Buffer.alloc(HEAD_BYTES)
    header.writeUInt32LE(names.indexOf(`\0${name}\0`) + 1, 0)
    header.writeUInt32LE(1, 4)
    header.writeBigUInt64LE(BigInt(offset), 24)
    header.writeBigUInt64LE(BigInt(data.length), 32)
    headers.push(header)
    parts.push(padding, data)
    offset += data.length
  }
  const whole = Buffer.concat([...parts, ...headers])
  whole.writeBigUInt64LE(BigInt(offset), 40)
  whole.writeUInt16LE(headers.length, 60)
  whole.writeUInt16LE(headers.length - 1, 62)
  return whole
}

/** A section with GPU code: for each fatbin the architectures of its machine code and of its PTX. */
export const gpuSection = (
  fatbins: readonly { readonly machine?: readonly number[]; readonly ptx?: readonly number[] }[],
): Section => {
  const parts = fatbins.flatMap(({ machine = [], ptx = [] }) => {
    const entries = [
      ...machine.map((architecture) => fatbinEntry(2, architecture)),
      ...ptx.map((architecture) => fatbinEntry(1, architecture)),
    ]
    const head = Buffer.alloc(16)
    head.writeUInt32LE(0xba55_ed50, 0)
    head.writeUInt16LE(1, 4)
    head.writeUInt16LE(16, 6)
    head.writeBigUInt64LE(BigInt(entries.reduce((sum, entry) => sum + entry.length, 0)), 8)
    // Some padding lies between them.
    return [head, ...entries, Buffer.alloc(16)]
  })
  return { name: '.nv_fatbin', data: Buffer.concat(parts) }
}

const fatbinEntry = (kind: number, architecture: number): Buffer => {
  const payload = 24
  const entry = Buffer.alloc(64 + payload)
  entry.writeUInt16LE(kind, 0)
  entry.writeUInt32LE(64, 4)
  entry.writeBigUInt64LE(BigInt(payload), 8)
  entry.writeUInt32LE(architecture, 28)
  return entry
}
