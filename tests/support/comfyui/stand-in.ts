import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'

/** A folder of ComfyUI with the stand-in in it; `files` are put there: custom nodes, models, workflows, faults.json. */
export const makeComfyUI = (folder: string, files: Readonly<Record<string, string>> = {}): string => {
  mkdirSync(join(folder, 'custom_nodes'), { recursive: true })
  copyFileSync(join(import.meta.dirname, 'main.py'), join(folder, 'main.py'))
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  return folder
}

/** The program of a custom node that brings the given classes. */
export const nodeModule = (...classes: readonly string[]): string =>
  [
    ...classes.map((name) => `class ${name}:\n    INPUT_TYPES = classmethod(lambda cls: {})\n`),
    `NODE_CLASS_MAPPINGS = {${classes.map((name) => `"${name}": ${name}`).join(', ')}}`,
  ].join('\n')

export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
