import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

type Places = {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The environment that pip belongs to: it may hold a pip.conf of its own. */
  readonly prefix: string
}

/** The settings of every pip.conf of this machine, in pip's order: machine, user, environment, PIP_CONFIG_FILE. */
export const readPipConfig = async ({
  environment,
  prefix,
}: Places): Promise<ReadonlyMap<string, string>> => {
  const own = environment['PIP_CONFIG_FILE']
  const home = environment['HOME']
  const userFolder =
    environment['XDG_CONFIG_HOME'] ?? (home === undefined ? undefined : join(home, '.config'))
  // pip itself reads no file at all when it is pointed to the null device.
  const files =
    own === '/dev/null'
      ? []
      : [
          '/etc/xdg/pip/pip.conf',
          '/etc/pip.conf',
          ...(home === undefined ? [] : [join(home, '.pip', 'pip.conf')]),
          ...(userFolder === undefined ? [] : [join(userFolder, 'pip', 'pip.conf')]),
          join(prefix, 'pip.conf'),
          ...(own ? [own] : []),
        ]
  const sections: Record<string, Map<string, string>> = { global: new Map(), install: new Map() }
  for (const file of files) {
    // Most of these files do not exist; one that cannot be read says nothing, as for pip.
    const text = await readFile(file, 'utf8').catch(() => '')
    for (const { section, key, value } of parseConfig(text)) sections[section]?.set(key, value)
  }
  return new Map([...(sections['global'] ?? []), ...(sections['install'] ?? [])])
}

/** The ini form of Python's configparser: indented lines go on with the value before. */
const parseConfig = (text: string): { section: string; key: string; value: string }[] => {
  const found: { section: string; key: string; value: string }[] = []
  let section = ''
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue
    const last = found.at(-1)
    const header = /^\[([^\]]+)\]/.exec(line)
    const pair = /^([^\s=:][^=:]*?)\s*[=:]\s*(.*)$/.exec(line)
    if (/^\s/.test(line) && last !== undefined) last.value = `${last.value} ${line.trim()}`.trim()
    else if (header) section = header[1] ?? ''
    else if (pair)
      found.push({ section, key: (pair[1] ?? '').replaceAll('_', '-'), value: (pair[2] ?? '').trim() })
  }
  return found
}
