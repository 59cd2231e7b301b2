import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument, followUntilInterrupted, textOption } from '../command.ts'
import { bold } from '../output/text.ts'

export const openPage: Command = {
  name: 'open',
  group: 'Processes',
  summary: 'the web page of a process on a port of this machine, through the agent',
  example: 'agentctl open comfyui --port 8188',
  arguments: [{ name: 'process', summary: 'its name; agentctl ps lists them', names: 'processes' }],
  options: [{ flags: '--port <port>', summary: 'the port on 127.0.0.1; by default a free one' }],
  run: (call) =>
    followUntilInterrupted(call, async () => {
      const name = argument(call, 0)
      const port = portOption(textOption(call, 'port'))
      const { servePage } = await import('../web/serve-page.ts')
      const api = await call.api()
      if ((await api.process(name)).process.url === null)
        throw new AgentError('not_found', `${name} has no web page`, {
          hint: 'A command has one when its ready says http or port.',
        })
      const page = await servePage({ name, port, api, signal: call.longSignal })
      if (call.output.json) call.output.document({ process: name, url: page.url, cookie: page.cookie })
      call.output.line(bold(name), `: ${page.url}`)
      call.output.note('the address lets one browser in, once; Ctrl-C closes the page, the process goes on')
      await page.closed
      return EXIT.done
    }),
}

const portOption = (text: string | undefined): number => {
  if (text === undefined) return 0
  const port = Number(text)
  if (/^\d{1,5}$/.test(text) && port >= 1 && port <= 65_535) return port
  throw new AgentError('usage', `--port: ${text} is not a port`, { hint: 'Write --port 8188.' })
}
