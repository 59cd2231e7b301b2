import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findProgram } from '../../agent/platform/commands.ts'
import type { Shell } from '../../client/completion-script.ts'
import { completionScript, SHELLS } from '../../client/completion-script.ts'
import { COMMANDS } from '../../client/commands/all.ts'
import { startAgentForFile } from '../support/agent-for-file.ts'
import { runAgentctl } from '../support/agentctl.ts'
import { AGENTCTL } from '../support/programs.ts'

/* Each script in its own shell, asked as the shell itself asks it when tab is pressed. */

const agent = await startAgentForFile()
let folder: string
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'gpu-agent-completion-'))
  for (const shell of SHELLS) writeFileSync(join(folder, shell), completionScript(shell, COMMANDS))
  writeFileSync(join(folder, 'box.yaml'), '')
  writeFileSync(join(folder, 'agentctl'), `#!/bin/sh\nexec '${process.execPath}' '${AGENTCTL}' "$@"\n`, {
    mode: 0o755,
  })
  const processes = Object.fromEntries(
    ['renderer', 'trainer'].map((name) => [
      name,
      { kind: 'command', command: ['sleep', '1000'], restart: 'always' },
    ]),
  )
  const output = join(agent.home, 'out')
  for (const name of ['epoch-1', '$(touch ran)', 'epoch;reboot']) {
    mkdirSync(join(output, name), { recursive: true })
    writeFileSync(join(output, name, 'trainer_state.json'), '{}')
  }
  const sync = [{ name: 'models', path: output, to: join(agent.home, 'copies'), settle: '1s' }]
  const manifest = join(folder, 'manifest.yaml')
  writeFileSync(manifest, JSON.stringify({ version: 1, name: 'box', processes, sync }))
  expect(await agent.agentctl(['apply', manifest])).toMatchObject({ code: 0 })
  expect(await agent.agentctl(['sync', '--now'])).toMatchObject({ code: 0 })
  const pair = ['pair', `unix:${join(agent.home, 'run/agent.sock')}`, '--name', 'gpu-seven']
  const input = readFileSync(join(agent.home, 'state/local-token'), 'utf8')
  expect(await runAgentctl(pair, { env: { HOME: folder }, input })).toMatchObject({ code: 0 })
})
afterAll(() => rmSync(folder, { recursive: true }))

const run = (argv: readonly [string, ...string[]]): string[] => {
  const [program, ...args] = argv
  const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}`, HOME: folder, AGENT_HOME: agent.home }
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
while ((quiet < $2)); do
  if zpty -r -t shell some; then text+=$some quiet=0; else sleep 0.1; ((quiet += 1)); fi
done
print -r -- "$text"`
const withoutCursorMoves = (text: string): string =>
  // eslint-disable-next-line no-control-regex -- they begin with ESC
  text.replaceAll(/\x1b\[[^a-zA-Z]*[a-zA-Z]|\r|\x07/g, ' ')

/** Tenths of a second without a word after which zsh counts as done; where a box is asked for its names it takes longer. */
const QUIET = { forWords: 5, forNames: 20 }

const OFFERED: Readonly<Record<Shell, (line: string, quiet?: number) => string[]>> = {
  bash: (line) => run(['bash', '--norc', '-c', BASH, 'bash', ...line.split(' ')]),
  zsh: (line, quiet = QUIET.forWords) =>
    run(['zsh', '-f', '-c', ZSH, 'zsh', line, String(quiet)]).flatMap((one) =>
      withoutCursorMoves(one).split(/\s+/),
    ),
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

  test.skipIf(missing).each([
    { typed: 'agentctl logs ', offered: ['renderer', 'trainer'] },
    { typed: 'agentctl stop ren', offered: ['renderer'] },
    { typed: 'agentctl --context gpu-seven restart tr', offered: ['trainer'] },
    { typed: 'agentctl context use ', offered: ['gpu-seven'] },
    { typed: 'agentctl --context gpu', offered: ['gpu-seven'] },
    { typed: 'agentctl sync mod', offered: ['models'] },
  ])('$typed⇥ asks the box for its names', ({ typed, offered }) => {
    expect(OFFERED[shell](typed, QUIET.forNames)).toEqual(expect.arrayContaining(offered))
  })

  test.skipIf(missing)('a checkpoint whose name a shell would run is not offered', () => {
    const words = OFFERED[shell]('agentctl pull-checkpoint ', QUIET.forNames)
    expect(words).toEqual(expect.arrayContaining(['latest', 'epoch-1']))
    expect(words.join(' ')).not.toMatch(/touch|reboot/)
    expect(existsSync(join(folder, 'ran'))).toBe(false)
  })
})
