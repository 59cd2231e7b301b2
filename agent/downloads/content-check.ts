import { AgentError } from '../../shared/contract/errors.ts'
import { isModelName } from '../../shared/sources/model-names.ts'

/** The format itself allows no longer header. */
const LONGEST_SAFETENSORS_HEADER = 100_000_000

/** Enough for every check but a long safetensors header. */
const HEAD_BYTES = 512

export type Inspected = {
  readonly name: string
  /** Null while it is not known; checks that need it wait for the end. */
  readonly sizeBytes: number | null
  /** How many bytes from the start are there. */
  readonly availableBytes: number
  readonly read: (start: number, length: number) => Promise<Buffer>
}

/**
 * Looks at the first bytes of a file while the rest is still coming: a login page, an error or an LFS pointer under a
 * model's name, a safetensors file that is shorter than its header says. True when there was enough to decide.
 * @throws AgentError login_required, not_a_model
 */
export const inspectStart = async (file: Inspected): Promise<boolean> => {
  if (!isModelName(file.name) || file.sizeBytes === 0) return true
  const wanted = Math.min(HEAD_BYTES, file.sizeBytes ?? HEAD_BYTES)
  if (file.availableBytes < wanted) return false
  const head = await file.read(0, wanted)
  refuseText(file.name, head.toString('utf8', 0, 256))
  if (/\.gguf$/i.test(file.name) && head.toString('latin1', 0, 4) !== 'GGUF')
    throw new AgentError('not_a_model', `${file.name} does not start as a GGUF file`)
  return /\.(safetensors|sft)$/i.test(file.name) ? inspectSafetensors(head, file) : true
}

/** The checks of one transfer: run after each write, until there was enough to decide. */
export const createInspector = (
  file: { readonly name: string; readonly sizeBytes: number | null },
  part: {
    readonly book: { readonly done: () => readonly { readonly start: number; readonly end: number }[] }
    readonly read: Inspected['read']
  },
): (() => Promise<void>) => {
  let decided = false
  return async () => {
    const [first] = part.book.done()
    if (decided || first?.start !== 0) return
    decided = await inspectStart({ ...file, availableBytes: first.end, read: part.read })
  }
}

/**
 * Judges an answer by its Content-Type alone, before a byte of it is written.
 * @throws AgentError login_required, not_a_model
 */
export const refusePageType = (name: string, contentType: string | undefined): void => {
  if (!isModelName(name) || contentType === undefined) return
  if (/^text\/html\b/i.test(contentType)) throw webPage(name)
  if (/^(application\/(json|xml)|text\/xml)\b/i.test(contentType))
    throw new AgentError('not_a_model', `the source sent ${contentType} instead of ${name}`)
}

const webPage = (name: string): AgentError =>
  new AgentError('login_required', `the source sent a web page instead of ${name}`)

/**
 * Judges the first characters of what came instead of a model.
 * @throws AgentError login_required, not_a_model
 */
export const refuseText = (name: string, beginning: string): void => {
  if (!isModelName(name)) return
  const text = beginning.trimStart()
  if (/^<(!doctype|html|head|body|\?xml|!--)/i.test(text)) throw webPage(name)
  if (text.startsWith('version https://git-lfs.github.com/spec/'))
    throw new AgentError('not_a_model', `the source sent a Git LFS pointer instead of ${name}`, {
      hint: 'Use the address that resolves the file (…/resolve/…), not the raw one.',
    })
  if (/^\{\s*"(error|message|detail)"/.test(text))
    throw new AgentError('not_a_model', `the source sent an error instead of ${name}: ${text.slice(0, 120)}`)
}

/** A u64 (little-endian) N, then N bytes of JSON, then exactly the bytes that the JSON describes. */
const inspectSafetensors = async (head: Buffer, file: Inspected): Promise<boolean> => {
  const length = head.length >= 8 ? Number(head.readBigUInt64LE(0)) : Infinity
  if (length > LONGEST_SAFETENSORS_HEADER || head[8] !== 0x7b)
    throw new AgentError('not_a_model', `${file.name} does not start as a safetensors file`)
  if (file.sizeBytes === null) return false
  if (file.sizeBytes < 8 + length) throw truncated(file.name, 8 + length, file.sizeBytes)
  if (file.availableBytes < 8 + length) return false
  const described = describedBytes((await file.read(8, length)).toString('utf8'), file.name)
  if (8 + length + described !== file.sizeBytes)
    throw truncated(file.name, 8 + length + described, file.sizeBytes)
  return true
}

const describedBytes = (header: string, name: string): number => {
  try {
    const tensors: unknown = JSON.parse(header)
    let end = 0
    for (const [key, tensor] of Object.entries(
      tensors as Record<string, { data_offsets?: [number, number] }>,
    ))
      if (key !== '__metadata__') end = Math.max(end, tensor.data_offsets?.[1] ?? 0)
    return end
  } catch (error) {
    throw new AgentError('not_a_model', `the header of ${name} is not JSON`, { cause: error })
  }
}

const truncated = (name: string, wanted: number, actual: number): AgentError =>
  new AgentError(
    'not_a_model',
    `${name} is ${actual < wanted ? 'truncated' : 'too long'}: its header describes ${wanted} bytes, it has ${actual}`,
    { hint: 'The file is broken at the source; use another source.' },
  )
