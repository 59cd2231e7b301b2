import type { Command } from './command.ts'

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

const GLOBAL_FLAGS = ['--context', '--json', '--no-color', '--timeout', '--help']

/** A completion script made from the definitions of the commands. */
export const completionScript = (shell: Shell, commands: readonly Command[]): string => {
  switch (shell) {
    case 'bash':
      return bashScript(commands)
    case 'zsh':
      return `#compdef agentctl\nautoload -U +X bashcompinit && bashcompinit\n${bashScript(commands)}`
    case 'fish':
      return fishScript(commands)
    default:
      return shell satisfies never
  }
}

const bashScript = (commands: readonly Command[]): string => {
  const cases = [
    ...commands.map(({ name, options }) => ({ words: name, next: (options ?? []).map(longFlag) })),
    ...familiesOf(commands).map(([family, members]) => ({ words: family, next: members })),
  ].map(({ words, next }) => `    "${words}") words="${[...next, ...GLOBAL_FLAGS].join(' ')}" ;;`)
  return `# agentctl completion; use it with: source <(agentctl completion bash)
_agentctl() {
  local current="\${COMP_WORDS[COMP_CWORD]}" typed=() word words
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || typed+=("$word")
  done
  case "\${typed[*]:0:2}" in
    "") words="${[...firstWords(commands), ...GLOBAL_FLAGS].join(' ')}" ;;
${cases.join('\n')}
    *) words="" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ \${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}
complete -F _agentctl agentctl
`
}

const fishScript = (commands: readonly Command[]): string => {
  const lines = commands.flatMap(({ name, summary, options }) => {
    const [first = '', second] = name.split(' ')
    const seen = `__fish_seen_subcommand_from ${second ?? first}`
    const here = second === undefined ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${first}`
    return [
      `complete -c agentctl -n '${here}' -a ${second ?? first} -d ${quoted(summary)}`,
      ...(options ?? []).map(
        (option) =>
          `complete -c agentctl -n '${seen}' -l ${longFlag(option).slice(2)} -d ${quoted(option.summary)}`,
      ),
    ]
  })
  const families = familiesOf(commands).map(
    ([family]) => `complete -c agentctl -n '__fish_use_subcommand' -a ${family}`,
  )
  const flags = GLOBAL_FLAGS.map((flag) => `complete -c agentctl -l ${flag.slice(2)}`)
  return `${[...families, ...lines, ...flags].join('\n')}\n`
}

const longFlag = ({ flags }: { flags: string }): string => /--[a-z-]+/.exec(flags)?.[0] ?? flags

const firstWords = (commands: readonly Command[]): string[] => [
  ...new Set([...commands.map(({ name }) => name.split(' ')[0] ?? name), 'help']),
]

/** `token` → `ls create revoke`. */
const familiesOf = (commands: readonly Command[]): [string, string[]][] => {
  const families = Map.groupBy(
    commands.filter(({ name }) => name.includes(' ')),
    ({ name }) => name.split(' ')[0] ?? name,
  )
  return [...families].map(([family, members]) => [
    family,
    members.map(({ name }) => name.split(' ')[1] ?? ''),
  ])
}

const quoted = (text: string): string => `'${text.replaceAll("'", '’')}'`
