import { describe, expect, test } from 'vitest'
import { COMMANDS, FAMILIES } from '../../client/commands/all.ts'
import { parseArguments } from '../../client/program.ts'

const help = (words: string): string => {
  const chosen = parseArguments(['help', ...words.split(' ')])
  if (chosen.kind !== 'text') throw new Error(`help ${words} is not a text`)
  return chosen.text
}

describe('help', () => {
  test.each(COMMANDS)('help $name: arguments, options, an example, exit statuses', (command) => {
    const text = help(command.name)
    expect(text).toMatch(new RegExp(`^Usage: agentctl ${command.name} `))
    for (const { name } of command.arguments ?? []) expect(text).toContain(`\n  ${name.replace('...', '')}`)
    for (const { flags } of command.options ?? []) expect(text).toContain(`\n  ${flags}`)
    expect(text).toContain(`\nExample:\n  ${command.example}\n`)
    expect(text).toMatch(/^Exit status:\n {2}\S+ +\S/m)
    expect(parseArguments([...command.name.split(' '), '--help'])).toEqual({ kind: 'text', text })
  })

  test.each(Object.keys(FAMILIES))('help %s lists its commands', (family) => {
    const text = help(family)
    for (const { name } of COMMANDS.filter((command) => command.name.startsWith(`${family} `)))
      expect(text).toMatch(new RegExp(`^  ${name.slice(family.length + 1)} `, 'm'))
  })

  test.each(COMMANDS)('the example of $name is a command line that is taken', ({ name, example }) => {
    const line = /agentctl ([^|<>&)]*)/.exec(example)?.[1] ?? ''
    const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '')
    expect(parseArguments(words)).toMatchObject({ kind: 'command', command: { name } })
  })

  test.each(['lend', 'token lend'])('help %s says that there is no such command', (words) => {
    expect(() => help(words)).toThrow(`there is no command ${words}`)
  })
})
