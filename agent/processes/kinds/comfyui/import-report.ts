import { basename } from 'node:path'

/*
 * ComfyUI starts and looks healthy when a custom node fails to import; only its output says so. The wording is that of
 * load_custom_node and init_external_custom_nodes (nodes.py) and of execute_prestartup_script (main.py).
 */

/** `empty`: the module imported, and has nothing that ComfyUI could register. */
export type ImportFailure = {
  /** The folder or file under custom_nodes. */
  readonly node: string
  readonly reason: 'import' | 'empty' | 'prestartup'
  readonly message: string
  /** A part of ComfyUI itself, beside the custom nodes. */
  readonly isOwn: boolean
}

export type ImportReport = {
  readonly failures: readonly ImportFailure[]
  /** Everything in the table of import times; undefined when the output has no such table. */
  readonly loaded: ReadonlySet<string> | undefined
}

const CANNOT = /^Cannot import (.+?) module for custom nodes: ?(.*)$/
const EMPTY = /^Skip (.+?) module for custom nodes due to the lack of NODE_CLASS_MAPPINGS/
const ENTRYPOINT = /^(?:Error while calling comfy_entrypoint in (\S+?): (.*)|comfy_entrypoint in (\S+) (.+))$/
const OWN = /\/(comfy_extras|comfy_api_nodes)\/[^/]+$/
const PRESTARTUP = /^Failed to execute startup-script: (.+?) \/ (.*)$/
const TIMES = /^ *[\d.]+ seconds( \((?:IMPORT|PRESTARTUP) FAILED\))?: (.+)$/

/** What the output of a start says about custom nodes. Pure; `output` is plain text. */
export const readImportReport = (output: string): ImportReport => {
  const failures = new Map<string, ImportFailure>()
  const add = (path: string, reason: ImportFailure['reason'], message: string): void => {
    const node = basename(path.trim())
    if (!failures.has(`${node} ${reason}`))
      failures.set(`${node} ${reason}`, { node, reason, message, isOwn: OWN.test(path) })
  }
  let loaded: Set<string> | undefined
  // Newer versions put a level before each message.
  for (const line of output.split('\n').map((one) => one.replace(/^\[?(INFO|WARNING|ERROR)\]?:? /, ''))) {
    const cannot = CANNOT.exec(line)
    const entrypoint = ENTRYPOINT.exec(line)
    const prestartup = PRESTARTUP.exec(line)
    const times = TIMES.exec(line)
    const empty = EMPTY.exec(line)
    if (cannot) add(cannot[1] ?? '', 'import', cannot[2] || 'no cause is given')
    else if (empty) add(empty[1] ?? '', 'empty', 'it has no NODE_CLASS_MAPPINGS')
    else if (entrypoint)
      add(entrypoint[1] ?? entrypoint[3] ?? '', 'import', entrypoint[2] ?? entrypoint[4] ?? '')
    else if (prestartup)
      add(folderOf(prestartup[1] ?? ''), 'prestartup', prestartup[2] || 'no cause is given')
    else if (/^Import times for custom nodes:/.test(line)) loaded ??= new Set()
    else if (times) {
      const node = basename(times[2]?.trim() ?? '')
      if (times[1]?.includes('PRESTARTUP')) {
        if (!failures.has(`${node} prestartup`)) add(node, 'prestartup', 'its cause is in the output')
        continue
      }
      loaded?.add(node)
      const isKnown = failures.has(`${node} import`) || failures.has(`${node} empty`)
      if (times[1] && !isKnown) add(node, 'import', 'its cause is in the output')
    }
  }
  return { failures: [...failures.values()], loaded }
}

const folderOf = (script: string): string => script.replace(/\/[^/]*$/, '')
