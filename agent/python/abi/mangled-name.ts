import type { CommandResult } from '../../platform/commands.ts'
import { findProgram, runCommand } from '../../platform/commands.ts'

/**
 * The part of a mangled C++ name that names the function, without its parameters: what another version of a library
 * still has. `_ZN3c104cuda5checkEii` → `_ZN3c104cuda5checkE`; undefined for what is no such name.
 */
export const functionStart = (name: string): string | undefined => {
  const head = /^_ZNK?/.exec(name)?.[0]
  if (head === undefined) return undefined
  let at = head.length
  for (;;) {
    const digits = /^\d+/.exec(name.slice(at, at + 6))?.[0]
    if (digits === undefined) break
    at += digits.length + Number(digits)
  }
  return at > head.length && name[at] === 'E' ? name.slice(0, at + 1) : undefined
}

/** Names as people write them, by c++filt; as they are where there is none. */
export const demangle = async (
  names: readonly string[],
  context: { readonly searchPath: string; readonly signal: AbortSignal },
): Promise<ReadonlyMap<string, string>> => {
  const same = new Map(names.map((name) => [name, name]))
  const program = findProgram('c++filt', context.searchPath)
  if (program === undefined || names.length === 0) return same
  const result: CommandResult = await runCommand([program], {
    env: { PATH: context.searchPath, LC_ALL: 'C' },
    input: `${names.join('\n')}\n`,
    signal: context.signal,
    timeoutMs: 10_000,
  })
  const lines = result.stdout.trimEnd().split('\n')
  if (result.exitCode !== 0 || lines.length !== names.length) return same
  return new Map(names.map((name, index) => [name, lines[index] ?? name]))
}
