import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Api } from '../api.ts'
import type { Call, Command } from '../command.ts'
import { argument, flagOption, followUntilInterrupted, textOption } from '../command.ts'
import { connectionError } from '../connection.ts'
import { isPassing } from '../event-stream.ts'
import { createLineReader } from '../output/lines.ts'
import { cleanOutput } from '../output/text.ts'
import { backoffMs, sleep } from '../wait.ts'

export const logs: Command = {
  name: 'logs',
  group: 'Processes',
  summary: 'the output of a process, also after it ended',
  example: 'agentctl logs --follow --tail 100 comfyui',
  arguments: [{ name: 'process', summary: 'its name; agentctl ps lists them', names: 'processes' }],
  options: [
    { flags: '-f, --follow', summary: 'go on with what it prints; with --json one object a line' },
    { flags: '--since <time>', summary: 'from this time on (ISO 8601), or an age like 10m' },
    { flags: '--tail <lines>', summary: 'the last lines alone' },
    { flags: '--raw', summary: 'its bytes as they are, with terminal sequences' },
  ],
  run: (call) => (flagOption(call, 'follow') ? followUntilInterrupted(call, () => show(call)) : show(call)),
}

const show = async (call: Call): Promise<number> => {
  const follow = flagOption(call, 'follow')
  const api = await call.api()
  const sink = createSink(call, follow)
  let from: number | undefined
  let attempt = 0
  for (;;) {
    try {
      for await (const end of readOnce(api, { call, from, follow, sink })) {
        attempt = 0
        from = end
      }
      return await sink.end()
    } catch (error) {
      const known = connectionError(error, call.longSignal, api.label)
      const canResume = follow && (from !== undefined || !sink.begun())
      if (!canResume || call.longSignal.aborted || !isPassing(known)) throw known
      attempt += 1
      if (attempt === 1) call.output.note(`${known.message}; trying again`)
    }
    await sleep(backoffMs(attempt), call.longSignal)
  }
}

type Sink = { write(bytes: Buffer): Promise<void>; end(): Promise<number>; begun(): boolean }

/** Passes the bytes of one answer on and tells the offset after each piece, from where a next answer goes on. */
async function* readOnce(
  api: Api,
  { call, from, follow, sink }: { call: Call; from: number | undefined; follow: boolean; sink: Sink },
): AsyncGenerator<number> {
  const first = from === undefined
  const query = {
    follow: String(follow),
    ...(first ? { tail: tailOption(call), since: textOption(call, 'since') } : { from: String(from) }),
  }
  const reply = await api.openLog(argument(call, 0), query, call.longSignal)
  let offset = Number(reply.headers['x-log-offset'] ?? from ?? Number.NaN)
  for await (const chunk of reply.body) {
    const bytes = chunk as Buffer
    await sink.write(bytes)
    offset += bytes.byteLength
    if (Number.isSafeInteger(offset)) yield offset
  }
}

const tailOption = (call: Call): string | undefined => {
  const tail = textOption(call, 'tail')
  if (tail !== undefined && !/^\d{1,9}$/.test(tail))
    throw new AgentError('usage', `--tail: ${tail} is not a number of lines`, { hint: 'Write --tail 100.' })
  return tail
}

const createSink = (call: Call, follow: boolean): Sink => {
  const { output } = call
  const raw = flagOption(call, 'raw')
  const all: string[] = []
  const fresh: string[] = []
  let begun = false
  const reader = createLineReader((line) => fresh.push(raw ? line : cleanOutput(line)))
  const show = async (): Promise<void> => {
    const lines = fresh.splice(0)
    if (!output.json && lines.length > 0) await output.raw(`${lines.join('\n')}\n`)
    else if (follow) for (const line of lines) output.document({ line })
    else all.push(...lines)
  }
  return {
    begun: () => begun,
    write: (bytes) => {
      begun = true
      if (raw && !output.json) return output.raw(bytes)
      reader.write(bytes)
      return show()
    },
    end: async () => {
      reader.end()
      await show()
      if (output.json && !follow) output.document({ lines: all })
      return EXIT.done
    },
  }
}
