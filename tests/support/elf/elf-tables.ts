/** The ELF head and the three program headers. */
export const writeHead = (
  bytes: Buffer,
  of: { readonly size: number; readonly dynamicAt: number; readonly dynamicBytes: number },
): void => {
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]) // 64 bits, little-endian
  bytes.writeUInt16LE(3, 16) // a shared object
  bytes.writeUInt16LE(62, 18) // x86-64
  bytes.writeUInt32LE(1, 20)
  bytes.writeBigUInt64LE(64n, 32)
  for (const [at, value] of [
    [52, 64],
    [54, 56],
    [56, 3],
    [58, 64],
  ] as const)
    bytes.writeUInt16LE(value, at)
  const programs = [
    { type: 1, flags: 7, at: 0, length: of.size, align: 0x1000 },
    { type: 2, flags: 6, at: of.dynamicAt, length: of.dynamicBytes, align: 8 },
    { type: 0x6474_e551, flags: 6, at: 0, length: 0, align: 16 }, // a stack that is not run
  ]
  for (const [index, { type, flags, at, length, align }] of programs.entries()) {
    const start = 64 + 56 * index
    bytes.writeUInt32LE(type, start)
    bytes.writeUInt32LE(flags, start + 4)
    for (const [field, value] of [at, at, at, length, length, align].entries())
      bytes.writeBigUInt64LE(BigInt(value), start + 8 + field * 8)
  }
}

/** One bucket that holds every name. */
export const writeOldHash = (bytes: Buffer, { at, count }: { at: number; count: number }): void => {
  bytes.writeUInt32LE(1, at)
  bytes.writeUInt32LE(count, at + 4)
  bytes.writeUInt32LE(count > 1 ? 1 : 0, at + 8)
  for (let index = 1; index < count; index += 1)
    bytes.writeUInt32LE(index + 1 < count ? index + 1 : 0, at + 12 + index * 4)
}

/** One bucket, and a filter of one word. */
export const writeGnuHash = (
  bytes: Buffer,
  { at, first, names }: { at: number; first: number; names: readonly string[] },
): void => {
  const SHIFT = 6
  bytes.writeUInt32LE(1, at)
  bytes.writeUInt32LE(first, at + 4)
  bytes.writeUInt32LE(1, at + 8)
  bytes.writeUInt32LE(SHIFT, at + 12)
  let filter = 0n
  for (const [index, name] of names.entries()) {
    const hash = gnuHashOf(name)
    filter |= (1n << BigInt(hash % 64)) | (1n << BigInt((hash >>> SHIFT) % 64))
    const isLast = index === names.length - 1
    bytes.writeUInt32LE(((hash & ~1) | (isLast ? 1 : 0)) >>> 0, at + 28 + index * 4)
  }
  bytes.writeBigUInt64LE(filter, at + 16)
  bytes.writeUInt32LE(names.length > 0 ? first : 0, at + 24)
}

/** One library of the versions that are needed. */
export const writeNeed = (
  bytes: Buffer,
  at: number,
  of: { readonly library: number; readonly count: number; readonly next: number },
): void => {
  bytes.writeUInt16LE(1, at)
  bytes.writeUInt16LE(of.count, at + 2)
  bytes.writeUInt32LE(of.library, at + 4)
  bytes.writeUInt32LE(16, at + 8)
  bytes.writeUInt32LE(of.next, at + 12)
}

const gnuHashOf = (name: string): number =>
  [...Buffer.from(name, 'latin1')].reduce((hash, byte) => (hash * 33 + byte) % 2 ** 32, 5381)

/** The hash of the System V gABI, also used for versions. */
export const oldHashOf = (name: string): number =>
  [...Buffer.from(name, 'latin1')].reduce((before, byte) => {
    const hash = (before * 16 + byte) % 2 ** 32
    const top = Math.floor(hash / 2 ** 28)
    return ((hash ^ (top << 4)) & 0x0fff_ffff) >>> 0
  }, 0)
