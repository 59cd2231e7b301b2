import { Command as Parser, CommanderError, Option } from 'commander'
import { AgentError } from '../shared/contract/errors.ts'
import { parseDuration } from '../shared/contract/units.ts'
import type { Command, OptionValue } from './command.ts'
import { COMMAND_GROUPS } from './command.ts'
import { COMMANDS, FAMILIES } from './commands/all.ts'
import { EXIT_TABLE } from './exit.ts'
import { VERSION } from '../shared/version.ts'

/** What the command line asks for: a command, or a text of the program itself (help, version). */
export type Chosen =
  | { readonly kind: 'text'; readonly text: string }
  | {
      readonly kind: 'command'
      readonly command: Command
      readonly args: readonly string[]
      readonly options: Readonly<Record<string, OptionValue | undefined>>
      readonly context: string | undefined
      readonly json: boolean
      readonly colour: boolean
      readonly timeoutMs: number | undefined
    }

/** Reads the command line. @throws AgentError usage */
export const parseArguments = (argv: readonly string[]): Chosen => {
  const written: string[] = []
  let chosen: Chosen | undefined
  const program = buildProgram(written, (command, args, options) => {
    const flags = program.opts<GlobalFlags>()
    chosen = {
      kind: 'command',
      command,
      args,
      options,
      context: flags.context,
      json: flags.json === true,
      colour: flags.color,
      timeoutMs: flags.timeout === undefined ? undefined : timeoutOf(flags.timeout),
    }
  })
  try {
    program.parse(asHelpFlag(argv), { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode !== 0 && error.code !== 'commander.help') throw usageError(error, argv)
  }
  if (chosen !== undefined) return chosen
  if (written.length > 0 && argv.length > 0) return { kind: 'text', text: written.join('') }
  const [first, named] = argv.filter((word) => !word.startsWith('-'))
  const what = first === 'help' && named ? `there is no command ${named}` : 'no command was given'
  throw new AgentError('usage', what, { hint: 'agentctl help lists the commands.' })
}

/** `help token create` is `token create --help`; commander itself looks at one word alone. @throws AgentError usage */
const asHelpFlag = (argv: readonly string[]): readonly string[] => {
  if (argv[0] !== 'help') return argv
  const words = argv.slice(1).filter((word) => !word.startsWith('-'))
  const asked = words.join(' ')
  const isKnown = asked in FAMILIES || COMMANDS.some(({ name }) => name === asked)
  if (words.length > 0 && asked !== 'help' && !isKnown)
    throw new AgentError('usage', `there is no command ${asked}`, {
      hint: 'agentctl help lists the commands.',
    })
  return [...argv.slice(1), '--help']
}

type GlobalFlags = { context?: string; json?: boolean; color: boolean; timeout?: string }
type Choose = (command: Command, args: readonly string[], options: Record<string, OptionValue>) => void

const buildProgram = (written: string[], choose: Choose): Parser => {
  const program = new Parser('agentctl')
    .description('Talks to gpu-agent on a rented GPU machine.')
    .usage('[--context NAME] [--json] [--no-color] [--timeout 30s] COMMAND')
    .version(VERSION, '--version', 'print the version of agentctl')
    .addOption(new Option('--context <name>', 'the box to talk to; see agentctl context ls'))
    .addOption(new Option('--json', 'one JSON document on standard output, and nothing else there'))
    .addOption(new Option('--no-color', 'no colours (also: NO_COLOR)'))
    .addOption(new Option('--timeout <duration>', 'give up after this long, for example 30s'))
    .addHelpCommand(
      new Parser('help').argument('[command...]').summary('explain a command').helpGroup('This machine:'),
    )
    .addHelpText('after', `\n${exitStatuses(EXIT_TABLE)}`)
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .configureOutput({
      writeOut: (text) => written.push(text),
      // Usage errors are thrown and printed in the one place for errors.
      writeErr: () => undefined,
    })
  const families = new Map<string, Parser>()
  for (const group of COMMAND_GROUPS) {
    for (const command of COMMANDS.filter((one) => one.group === group)) {
      const [family, member] = command.name.split(' ')
      if (member === undefined || family === undefined)
        addCommand(program, command, choose).helpGroup(`${group}:`)
      else addCommand(familyOf(program, families, { family, group }), command, choose)
    }
  }
  return program
}

const familyOf = (
  program: Parser,
  families: Map<string, Parser>,
  { family, group }: { family: string; group: string },
): Parser => {
  const known = families.get(family)
  if (known) return known
  const made = program
    .command(family)
    .summary(FAMILIES[family] ?? '')
    .description(FAMILIES[family] ?? '')
    .helpCommand(false)
    .helpGroup(`${group}:`)
  families.set(family, made)
  return made
}

const addCommand = (parent: Parser, command: Command, choose: Choose): Parser => {
  const parser = parent
    .command(command.name.split(' ').at(-1) ?? command.name)
    .summary(command.summary)
    .description(command.summary)
    .allowExcessArguments(false)
  for (const { name, summary, optional } of command.arguments ?? [])
    parser.argument(optional ? `[${name}]` : `<${name}>`, summary)
  for (const { flags, summary } of command.options ?? []) parser.option(flags, summary)
  parser.addHelpText(
    'after',
    `\nExample:\n  ${command.example}\n\n${exitStatuses(command.exits ?? EXIT_TABLE)}`,
  )
  return parser.action(() => choose(command, parser.args, parser.opts()))
}

const exitStatuses = (table: readonly (readonly [number | string, string])[]): string =>
  ['Exit status:', ...table.map(([status, meaning]) => `  ${String(status).padEnd(4)} ${meaning}`)].join('\n')

/** @throws AgentError usage */
const timeoutOf = (text: string): number => {
  const ms = parseDuration(text)
  if (ms === undefined || ms <= 0)
    throw new AgentError('usage', `--timeout: ${text} is not a duration`, { hint: 'Write 30s, 2m or 1h30m.' })
  return ms
}

const usageError = (error: CommanderError, argv: readonly string[]): AgentError => {
  const message = error.message.replace(/^error: /, '').replaceAll('\n', ' ')
  const words = argv.filter((word) => !word.startsWith('-'))
  const known = COMMANDS.find(({ name }) => name === words.slice(0, 2).join(' ') || name === words[0])
  return new AgentError('usage', message, {
    cause: error,
    hint: known ? `agentctl ${known.name} --help explains it.` : 'agentctl help lists the commands.',
  })
}
