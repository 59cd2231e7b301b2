import { readFileSync } from 'node:fs'

declare const __VERSION__: string | undefined

/** The version of this program: written in by the build, read from package.json in a checkout. */
export const VERSION: string =
  typeof __VERSION__ === 'string'
    ? __VERSION__
    : (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string })
        .version
