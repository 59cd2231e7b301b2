import type { AuditCheck } from '../../shared/contract/audit-record.ts'
import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import type { Text } from '../output/text.ts'
import { dim, green, red, yellow } from '../output/text.ts'

const MARKS: Readonly<Record<AuditCheck['state'], (text: string) => Text>> = {
  ok: green,
  warning: yellow,
  error: red,
  unknown: dim,
}

export const audit: Command = {
  name: 'audit',
  group: 'The box',
  summary: 'read-only report of health and safety; changes nothing',
  example: 'agentctl audit --json',
  run: async (call) => {
    const record = await (await call.api()).audit()
    const failed = record.checks.some(({ state }) => state === 'error')
    if (call.output.json) call.output.document(record)
    call.output.table(
      ['CHECK', 'STATE', 'FOUND'],
      record.checks.map(({ name, state, summary }) => [name, MARKS[state](state), summary]),
    )
    const open = record.listeners.filter((listener) => listener.public)
    if (open.length > 0) {
      call.output.line()
      call.output.table(
        ['REACHABLE FROM OUTSIDE', 'PROGRAM', 'PID'],
        open.map(({ protocol, address, port, program, pid }) => [
          `${protocol} ${address.includes(':') ? `[${address}]` : address}:${port}`,
          program ?? '-',
          pid === null ? '-' : String(pid),
        ]),
      )
    }
    if (record.environmentFingerprint !== null)
      call.output.line(dim('environment '), record.environmentFingerprint.slice(0, 16))
    call.output.problems(record.problems)
    return failed ? EXIT.failed : EXIT.done
  },
}
