import type { Command, CommandOption } from './command.ts'

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

const GLOBAL_OPTIONS: readonly CommandOption[] = [
  { flags: '--context <name>', summary: 'the box to talk to' },
  { flags: '--json', summary: 'one JSON document on standard output' },
  { flags: '--no-color', summary: 'no colours' },
  { flags: '--timeout <duration>', summary: 'give up after this long' },
  { flags: '--help', summary: 'explain the command' },
]

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

/* Both scripts do the same: the words that were typed, without options and what they take, say which command it is. */

const bashScript = (commands: readonly Command[]): string => {
  const cases = [
    { words: '', next: [...firstWords(commands), 'help'], kind: '' },
    ...[...familiesOf(commands)].map(([family, members]) => ({
      words: family,
      next: members.map(lastWord),
      kind: '',
    })),
    ...commands.map(({ name, options = [], arguments: taken = [] }) => ({
      words: name,
      next: [...taken.flatMap(({ choices = [] }) => choices), ...options.map(longFlag)],
      kind: taken[0]?.names ?? '',
    })),
  ].map(
    ({ words, next, kind }) =>
      `    "${words}") kind="${kind}" next="${[...next, ...GLOBAL_OPTIONS.map(longFlag)].join(' ')}" ;;`,
  )
  return `# agentctl completion; use it with: source <(agentctl completion bash)
_agentctl() {
  local current="\${COMP_WORDS[COMP_CWORD]}" first="" second="" takes="" next="" kind="" word i
  local -a of=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    if [[ $takes == --context ]]; then of=(--context "$word"); fi
    if [[ -n $takes ]]; then takes=""; continue; fi
    case "$word" in
      ${optionsWithValue(commands).join('|')}) takes="$word" ;;
      -*) ;;
      help) [[ -z $first ]] || second="$word" ;;
      *) if [[ -z $first ]]; then first="$word"; elif [[ -z $second ]]; then second="$word"; fi ;;
    esac
  done
  case "$first" in
    ${[...familiesOf(commands).keys()].join('|')}) first="$first\${second:+ $second}" ;;
  esac
  [[ -n $takes ]] || case "$first" in
${cases.join('\n')}
  esac
  [[ $takes != --context ]] || kind=contexts
  if [[ -n $kind && $current != -* ]]; then
    next+=" $(agentctl --timeout 2s "\${of[@]}" completion $kind 2>/dev/null)"
  fi
  COMPREPLY=($(compgen -W "$next" -- "$current"))
}
complete -o default -F _agentctl agentctl
`
}

const fishScript = (commands: readonly Command[]): string => {
  const families = familiesOf(commands)
  const complete = (at: string, rest: string): string =>
    `complete -c agentctl -n '__agentctl_at${at === '' ? '' : ` ${at}`}' ${rest}`
  const word = (at: string, text: string, summary: string): string =>
    complete(at, `-f -a ${text} -d ${quoted(summary)}`)
  const lines = [
    ...firstWords(commands).map((text) =>
      word('', text, commands.find(({ name }) => name === text)?.summary ?? ''),
    ),
    word('', 'help', 'explain a command'),
    ...[...families].flatMap(([family, members]) =>
      members.map((member) => word(family, lastWord(member), member.summary)),
    ),
    ...commands.flatMap(({ name, options = [], arguments: taken = [] }) => [
      ...taken.flatMap(({ choices = [], summary }) => choices.map((choice) => word(name, choice, summary))),
      ...taken
        .slice(0, 1)
        .flatMap(({ names }) => (names ? [complete(name, `-f -a '(__agentctl_names ${names})'`)] : [])),
      ...options.map((option) => complete(name, fishOption(option))),
    ]),
    ...GLOBAL_OPTIONS.map((option) => `complete -c agentctl ${fishOption(option)}`),
    `complete -c agentctl -l context -x -a '(__agentctl_names contexts)'`,
  ]
  return `# agentctl completion; use it with: agentctl completion fish | source
function __agentctl_at
    set -l typed (commandline -opc)
    set -e typed[1]
    set -l words
    set -l takes no
    for word in $typed
        if test $takes = yes
            set takes no
            continue
        end
        switch $word
            case ${optionsWithValue(commands).join(' ')}
                set takes yes
            case '-*'
            case '*'
                set -a words $word
        end
    end
    test "$words[1]" = help; and set -e words[1]
    contains -- "$words[1]" ${[...families.keys()].join(' ')}; and set words $words[1..2]; or set words $words[1]
    test "$words" = "$argv"
end
function __agentctl_names
    set -l typed (commandline -opc)
    set -l of
    if set -l at (contains -i -- --context $typed); and test $at -lt (count $typed)
        set of --context $typed[(math $at + 1)]
    end
    agentctl --timeout 2s $of completion $argv 2>/dev/null
end
${lines.join('\n')}
`
}

const fishOption = (option: CommandOption): string => {
  const short = /^-([a-z]),/.exec(option.flags)?.[1]
  return [
    ...(short === undefined ? [] : [`-s ${short}`]),
    `-l ${longFlag(option).slice(2)}`,
    ...(takesValue(option) ? ['-r'] : []),
    `-d ${quoted(option.summary)}`,
  ].join(' ')
}

const longFlag = ({ flags }: CommandOption): string => /--[a-z-]+/.exec(flags)?.[0] ?? flags

const takesValue = ({ flags }: CommandOption): boolean => flags.includes('<')

const optionsWithValue = (commands: readonly Command[]): string[] => [
  ...new Set(
    [...GLOBAL_OPTIONS, ...commands.flatMap(({ options = [] }) => options)].filter(takesValue).map(longFlag),
  ),
]

const firstWords = (commands: readonly Command[]): string[] => [
  ...new Set(commands.map(({ name }) => name.split(' ')[0] ?? name)),
]

const lastWord = ({ name }: Command): string => name.split(' ').at(-1) ?? name

/** `token` → its commands. */
const familiesOf = (commands: readonly Command[]): Map<string, Command[]> =>
  Map.groupBy(
    commands.filter(({ name }) => name.includes(' ')),
    ({ name }) => name.split(' ')[0] ?? name,
  )

const quoted = (text: string): string => `'${text.replaceAll("'", '’')}'`
