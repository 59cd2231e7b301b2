import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const SCRIPTS = {
  '2.5': { path: 'examples/inference.py', command: ['python3', 'examples/inference.py'] },
  '3': {
    path: 'cosmos_framework/scripts/inference.py',
    command: ['python3', '-m', 'cosmos_framework.scripts.inference'],
  },
} as const

/** A checkout of a Cosmos version, with the stand-in as its script; `files` are put beside it. */
export const makeCosmos = (
  folder: string,
  version: keyof typeof SCRIPTS,
  files: Readonly<Record<string, string>> = {},
): { readonly working_dir: string; readonly command: readonly string[] } => {
  const { path, command } = SCRIPTS[version]
  const script = readFileSync(join(import.meta.dirname, 'inference.py'), 'utf8')
  const all = { [path]: script.replace('VERSION = "2.5"', `VERSION = "${version}"`), ...files }
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return { working_dir: folder, command }
}
