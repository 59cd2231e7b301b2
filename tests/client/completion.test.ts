import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findProgram } from '../../agent/platform/commands.ts'
import type { Shell } from '../../client/completion-script.ts'
import { completionScript, SHELLS } from '../../client/completion-script.ts'
import { COMMANDS } from '../../client/commands/all.ts'

/* Each script in its own shell, asked as the shell itself asks it when tab is pressed. */

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'gpu-agent-completion-'))
  for (const shell of SHELLS) writeFileSync(join(folder, shell), completionScript(shell, COMMANDS))
  writeFileSync(join(folder, 'box.yaml'), '')
})
afterAll(() => rmSync(folder, { recursive: true }))

const run = (argv: readonly [string, ...string[]]): string[] => {
  const [program, ...args] = argv
  const env = { PATH: process.env['PATH'], HOME: folder }
  const answer = execFileSync(program, args, {
    encoding: 'utf8',
    cwd: folder,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return answer.split('\n').filter((line) => line !== '')
}

const BASH = `source ./bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_agentctl
printf '%s\\n' "\${COMPREPLY[@]}"
# What bash does by itself where a function has nothing to offer, and was told to.
[[ -n \${COMPREPLY[0]} || $(complete -p agentctl) != *'-o default'* ]] || compgen -f -- "\${COMP_WORDS[COMP_CWORD]}"`

/** zsh completes in its line editor alone, and lists nothing while more is typed: it gets a terminal, and is heard out. */
const ZSH = `zmodload zsh/zpty
zpty shell 'zsh -f -i'
zpty -w shell 'PS1= PROMPT_EOL_MARK=; autoload -U compinit; compinit -u -d ./dump; source ./zsh; echo ready-$((1+1))'
zpty -r shell text '*ready-2*'
zpty -w -n shell "$1"$'\\t'
text='' quiet=0
while ((quiet < 5)); do
  if zpty -r -t shell some; then text+=$some quiet=0; else sleep 0.1; ((quiet += 1)); fi
done
print -r -- "$text"`
const withoutCursorMoves = (text: string): string =>
  // eslint-disable-next-line no-control-regex -- they begin with ESC
  text.replaceAll(/\x1b\[[^a-zA-Z]*[a-zA-Z]|\r|\x07/g, ' ')

const OFFERED: Readonly<Record<Shell, (line: string) => string[]>> = {
  bash: (line) => run(['bash', '--norc', '-c', BASH, 'bash', ...line.split(' ')]),
  zsh: (line) =>
    run(['zsh', '-f', '-c', ZSH, 'zsh', line]).flatMap((one) => withoutCursorMoves(one).split(/\s+/)),
  fish: (line) =>
    run(['fish', '--no-config', '-c', `source ./fish; complete -C '${line}'`]).map(
      (one) => one.split('\t')[0] ?? '',
    ),
}

describe.each(SHELLS)('%s', (shell) => {
  const missing = findProgram(shell, process.env['PATH'] ?? '') === undefined
  test.skipIf(missing).each([
    { typed: 'agentctl sta', offered: ['status', 'start'], not: ['stop'] },
    { typed: 'agentctl token ', offered: ['ls', 'create', 'revoke'], not: ['apply'] },
    { typed: 'agentctl --context box --json tok', offered: ['token'], not: ['ls'] },
    { typed: 'agentctl token create ci --', offered: ['--scope', '--expires', '--json'], not: ['--follow'] },
    { typed: 'agentctl logs comfyui --', offered: ['--follow', '--tail'], not: ['--scope'] },
    { typed: 'agentctl logs --tail 5 comfyui --f', offered: ['--follow'], not: ['--since'] },
    { typed: 'agentctl help token c', offered: ['create'], not: ['ls'] },
    { typed: 'agentctl completion ', offered: ['bash', 'zsh', 'fish'], not: ['status'] },
    { typed: 'agentctl apply b', offered: ['box.yaml'], not: ['boxes'] },
  ])(`$typed⇥${missing ? ` (${shell} is not installed)` : ''}`, ({ typed, offered, not }) => {
    const words = OFFERED[shell](typed)
    expect(words).toEqual(expect.arrayContaining(offered))
    expect(words.filter((word) => not.includes(word))).toEqual([])
  })
})
