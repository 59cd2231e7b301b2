import type { PythonInstallRow } from '../../shared/contract/python-records.ts'
import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import type { Output } from '../output/output.ts'
import { orDash, stateText, timeText } from '../output/rows.ts'
import { dim } from '../output/text.ts'

const SPECS = { name: 'spec...', summary: 'requirements, for example "natsort==8.4.0"' }

export const pythonCheck: Command = {
  name: 'python check',
  group: 'Packages',
  summary: 'whether everything installed would load; changes nothing',
  example: 'agentctl python check',
  run: async (call) => {
    const check = await (await call.api()).pythonCheck()
    const failed = check.problems.some(({ severity }) => severity === 'error')
    if (call.output.json) call.output.document(check)
    call.output.line(dim('python     '), `${check.version}, ${check.interpreter}`)
    call.output.line(dim('overlay    '), check.overlay ?? 'none yet')
    call.output.line(dim('checked    '), `${check.packages} packages, ${check.sharedObjects} shared objects`)
    call.output.line(
      dim('protected  '),
      check.protected.map(({ name, version }) => `${name} ${version}`).join(', ') || 'nothing',
    )
    call.output.problems(check.problems)
    if (check.problems.length === 0) call.output.line('everything would load')
    return failed ? EXIT.failed : EXIT.done
  },
}

export const pythonPlan: Command = {
  name: 'python plan',
  group: 'Packages',
  summary: 'what an install would change, or why it is refused; nothing done',
  example: 'agentctl python plan "natsort==8.4.0"',
  arguments: [SPECS],
  run: async (call) => {
    const { changes, problems } = await (await call.api()).pythonPlan(specsOf(call.args))
    const errors = problems.filter(({ severity }) => severity === 'error').length
    if (call.output.json) {
      call.output.document({ problems, changes })
      return errors > 0 ? EXIT.refused : EXIT.done
    }
    if (errors > 0)
      throw new AgentError('plan_has_errors', `the install would be refused`, {
        hint: 'Correct what is listed; nothing was changed.',
        problems,
      })
    if (changes.length === 0) call.output.line('nothing would change')
    showChanges(changes, call.output)
    call.output.problems(problems)
    return EXIT.done
  },
}

export const pythonInstall: Command = {
  name: 'python install',
  group: 'Packages',
  summary: 'install packages, or change nothing',
  example: 'agentctl python install "natsort==8.4.0"',
  arguments: [SPECS],
  run: async (call) => {
    const answer = await (await call.api()).pythonInstall(specsOf(call.args))
    if (call.output.json) call.output.document(answer)
    if (answer.install === null) call.output.line('everything was there already')
    else {
      showChanges(answer.install.changes, call.output)
      call.output.line(`installed; to take it back: agentctl python rollback ${answer.install.id}`)
    }
    return EXIT.done
  },
}

export const pythonHistory: Command = {
  name: 'python history',
  group: 'Packages',
  summary: 'installs, newest first, and which can be taken back',
  example: 'agentctl python history',
  run: async (call) => {
    const answer = await (await call.api()).pythonHistory()
    if (call.output.json) call.output.document(answer)
    if (answer.installs.length === 0) call.output.line('nothing was installed yet')
    call.output.table(
      ['INSTALL', 'STATE', 'BEGAN', 'ROLLBACK', 'CHANGES'],
      answer.installs.map((install) => [
        install.id,
        stateText(install.state),
        timeText(install.beganAt),
        install.canRollBack ? 'yes' : '-',
        install.changes.map(({ name, to }) => `${name} ${to}`).join(', '),
      ]),
    )
    return EXIT.done
  },
}

export const pythonRollback: Command = {
  name: 'python rollback',
  group: 'Packages',
  summary: 'take an install back, and those after it',
  example: 'agentctl python rollback',
  arguments: [{ name: 'id', summary: 'from python history; the last one without it', optional: true }],
  run: async (call) => {
    const answer = await (await call.api()).pythonRollback(call.args[0] ?? null)
    if (call.output.json) call.output.document(answer)
    const { id, changes } = answer.install
    const names = changes.map(({ name, to }) => `${name} ${to}`).join(', ')
    call.output.line(`taken back: ${id} (${names}), and whatever came after it`)
    return EXIT.done
  },
}

const specsOf = (args: readonly string[]): readonly string[] => {
  if (args.every((arg) => arg.trim() !== '')) return args
  throw new AgentError('usage', 'a requirement is empty', { hint: 'Write one like natsort==8.4.0.' })
}

const showChanges = (changes: PythonInstallRow['changes'], output: Output): void =>
  output.table(
    ['PACKAGE', 'FROM', 'TO'],
    changes.map((change) => [change.name, orDash(change.from), change.to]),
  )
