const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')

export const isPng = (bytes: Uint8Array): boolean =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).subarray(0, 8).equals(SIGNATURE)

/**
 * The texts of a PNG file by their keyword (tEXt chunks, PNG specification 11.3.3.2): ComfyUI keeps the workflow of
 * an image there. What is damaged ends the reading; what was read before counts.
 */
export const readPngTexts = (file: Uint8Array): ReadonlyMap<string, string> => {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength)
  const texts = new Map<string, string>()
  for (let at = SIGNATURE.length; at + 12 <= bytes.length;) {
    const length = bytes.readUInt32BE(at)
    const type = bytes.toString('latin1', at + 4, at + 8)
    const data = bytes.subarray(at + 8, at + 8 + length)
    if (data.length < length || type === 'IEND') break
    const zero = data.indexOf(0)
    // The specification says Latin-1; ComfyUI writes JSON in ASCII, and other programs write UTF-8.
    if (type === 'tEXt' && zero > 0)
      texts.set(data.toString('latin1', 0, zero), data.toString('utf8', zero + 1))
    at += 12 + length
  }
  return texts
}
