import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

/** Writes a source archive whose setup.py runs `setup`: what a plan must never do. */
export const makeSourceArchive = (
  options: { readonly name: string; readonly version: string; readonly setup: string },
  folder: string,
): string => {
  const { name, version, setup } = options
  const root = `${name}-${version}`
  const tar = Buffer.concat([
    tarEntry(`${root}/PKG-INFO`, `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`),
    tarEntry(
      `${root}/setup.py`,
      `${setup}\nfrom setuptools import setup\nsetup(name='${name}', version='${version}')\n`,
    ),
    Buffer.alloc(1024),
  ])
  const path = join(folder, `${root}.tar.gz`)
  writeFileSync(path, gzipSync(tar))
  return path
}

const tarEntry = (path: string, text: string): Buffer => {
  const data = Buffer.from(text)
  const header = Buffer.alloc(512)
  header.write(path, 0)
  header.write('0000644\0', 100)
  header.write('0000000\0', 108)
  header.write('0000000\0', 116)
  header.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124)
  header.write('00000000000\0', 136)
  header.write('        0', 148)
  header.write('ustar\x0000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  // The eighth blank of the checksum is not part of it: type “0” follows.
  header.write('0', 156)
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)])
}
