import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { green, red } from '../output/text.ts'

export const doctor: Command = {
  name: 'doctor',
  group: 'This machine',
  summary: 'what is wrong with this machine’s own set-up, and how to repair it',
  example: 'agentctl doctor',
  run: async (call) => {
    const { examine } = await import('../doctor/examine.ts')
    const findings = await examine(call)
    const wrong = findings.filter(({ fix }) => fix !== null)
    if (call.output.json) call.output.document({ checks: findings, ok: wrong.length === 0 })
    for (const { check, detail, fix } of findings) {
      call.output.line(fix === null ? green('ok   ') : red('wrong'), ` ${check}: ${detail}`)
      if (fix !== null) call.output.line(`      try: ${fix}`)
    }
    return wrong.length === 0 ? EXIT.done : EXIT.failed
  },
}
