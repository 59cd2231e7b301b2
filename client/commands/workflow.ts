import { readFile } from 'node:fs/promises'
import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { WorkflowReport } from '../../shared/contract/records.ts'
import { readWorkflow, workflowText } from '../../shared/workflows/read-workflow.ts'
import type { Command } from '../command.ts'
import { argument, textOption } from '../command.ts'
import { errnoOf } from '../exit.ts'
import { problemLines } from '../output/problems.ts'
import type { Text } from '../output/text.ts'
import { green, red } from '../output/text.ts'

export const workflowCheck: Command = {
  name: 'workflow check',
  group: 'Processes',
  summary: 'which nodes and models a ComfyUI workflow needs, and which are missing',
  example: 'agentctl workflow check wan.json',
  arguments: [{ name: 'file', summary: 'as ComfyUI saves it, or an image with a workflow in it' }],
  options: [{ flags: '--process <name>', summary: 'the ComfyUI to ask, where several run' }],
  run: async (call) => {
    const file = argument(call, 0)
    const workflow = workflowText(await readBytes(file), file)
    const ask = { workflow, file, process: textOption(call, 'process') ?? null }
    const report = await (await call.api()).checkWorkflow(ask)
    const isWhole = report.problems.length === 0
    if (call.output.json) call.output.document(report)
    call.output.table(['NODE', 'PACK', ''], report.nodes.map(nodeRow))
    if (report.models.length > 0) {
      call.output.line('')
      call.output.table(['MODEL', 'FOLDER', 'FOR', ''], report.models.map(modelRow))
    }
    call.output.lines(problemLines(report.problems))
    if (isWhole) call.output.line(green('ok'), ` ${report.process} has everything that ${file} needs`)
    return isWhole ? EXIT.done : EXIT.failed
  },
}

export const workflowManifest: Command = {
  name: 'workflow manifest',
  group: 'Processes',
  summary: 'a manifest with the downloads and custom nodes that a ComfyUI workflow names; needs no box',
  example: 'agentctl workflow manifest wan.json > box.yaml',
  arguments: [{ name: 'file', summary: 'as ComfyUI saves it, or an image with a workflow in it' }],
  run: async (call) => {
    const file = argument(call, 0)
    const nodes = readWorkflow(workflowText(await readBytes(file), file), file)
    const { manifestForWorkflow } = await import('../workflow/manifest-for-workflow.ts')
    const { text, missing } = await manifestForWorkflow(nodes, { ...call, file })
    if (call.output.json) call.output.document({ manifest: text, missing })
    else await call.output.raw(text)
    for (const one of missing) call.output.note(`not carried over: ${one}`)
    return EXIT.done
  },
}

const nodeRow = ({ name, pack, present }: WorkflowReport['nodes'][number]): Text[] => [
  name,
  pack ?? '-',
  presence(present),
]

const modelRow = ({ name, folder, node, present }: WorkflowReport['models'][number]): Text[] => [
  name,
  folder ?? '-',
  node,
  presence(present),
]

const presence = (present: boolean): Text => (present ? 'there' : red('missing'))

const readBytes = async (file: string): Promise<Uint8Array> => {
  try {
    return await readFile(file)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
    throw new AgentError('usage', `there is no file ${file}`, {
      hint: 'Give the path of a workflow that exists.',
      cause: error,
    })
  }
}
