import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import type { Problem } from '../../../../shared/contract/errors.ts'
import { AgentError, problemFrom } from '../../../../shared/contract/errors.ts'
import type { WorkflowReport } from '../../../../shared/contract/records.ts'
import { readWorkflow, workflowText } from '../../../../shared/workflows/read-workflow.ts'
import type { Clock } from '../../../platform/clock.ts'
import { readOutput } from '../../output-log.ts'
import { createOutputStripper } from '../../strip-output.ts'
import type { ComfyUI, ObjectInfo } from './ask-comfyui.ts'
import { askComfyUI } from './ask-comfyui.ts'
import { checkWorkflow } from './check-workflow.ts'
import type { ImportReport } from './import-report.ts'
import { readImportReport } from './import-report.ts'
import { judgeImports, missingProblems } from './judge-comfyui.ts'
import type { ComfyUIProof } from './plan-comfyui.ts'

type ProofContext = {
  readonly name: string
  /** The process's log, and where in it this job begins. */
  readonly folder: string
  readonly logStart: number
  readonly clock: Clock
  readonly signal: AbortSignal
}

/** The custom nodes are imported in the first lines of a start; a log of days is not read for them. */
const IMPORT_OUTPUT_BYTES = 8 * 2 ** 20

/**
 * What keeps a ComfyUI that answers from being ready: custom nodes that did not import, and nodes and models that its
 * workflows name and it does not have. Errors, and warnings for what is optional. ComfyUI itself tells none of it.
 * @throws the signal's reason
 */
export const proveComfyUI = async (
  proof: ComfyUIProof,
  context: ProofContext,
): Promise<readonly Problem[]> => {
  try {
    const comfyui = askComfyUI(proof.url, context)
    const [info, imports] = await Promise.all([comfyui.objectInfo(), readImports(context)])
    const problems = [...judgeImports(proof.nodes, { info, imports })]
    for (const file of proof.workflows) problems.push(...(await checkFile(file, { info, comfyui, imports })))
    return problems
  } catch (error) {
    context.signal.throwIfAborted()
    if (!(error instanceof AgentError)) throw error
    return [problemFrom(error, context.name)]
  }
}

/** What a workflow needs of a running ComfyUI. @throws AgentError workflow_invalid, process_not_ready */
export const reportWorkflow = async (
  workflow: { readonly text: string; readonly file: string },
  context: ProofContext & { readonly proof: ComfyUIProof },
): Promise<WorkflowReport> => {
  const nodes = readWorkflow(workflow.text, workflow.file)
  const comfyui = askComfyUI(context.proof.url, context)
  const [info, imports] = await Promise.all([comfyui.objectInfo(), readImports(context)])
  const found = await checkWorkflow(nodes, { info, comfyui })
  const problems = [...missingProblems(found, { file: workflow.file, imports })]
  return { file: workflow.file, process: context.name, ...found, problems }
}

/** Changes with what the workflows say: a proof holds as long as this does. */
export const proofKey = (proof: ComfyUIProof): string => {
  const hash = createHash('sha256')
  for (const file of proof.workflows)
    hash.update(existsSync(file) ? readFileSync(file) : 'absent').update('\0')
  return hash.digest('hex')
}

const checkFile = async (
  file: string,
  context: { readonly info: ObjectInfo; readonly comfyui: ComfyUI; readonly imports: ImportReport },
): Promise<readonly Problem[]> => {
  try {
    if (!existsSync(file))
      throw new AgentError('workflow_invalid', `there is no workflow ${file}`, {
        hint: 'Put the file there, or correct processes.*.workflows.',
      })
    const found = await checkWorkflow(readWorkflow(workflowText(readFileSync(file), file), file), context)
    return missingProblems(found, { file, imports: context.imports })
  } catch (error) {
    if (error instanceof AgentError && error.code === 'workflow_invalid') return [problemFrom(error, file)]
    throw error
  }
}

const readImports = async (context: ProofContext): Promise<ImportReport> => {
  const stripper = createOutputStripper()
  let output = ''
  const log = readOutput(context.folder, { ...context, fromOffset: context.logStart, follow: () => false })
  for await (const { offset, bytes } of log) {
    output += stripper.push(bytes)
    if (offset - context.logStart > IMPORT_OUTPUT_BYTES) break
  }
  return readImportReport(output)
}
