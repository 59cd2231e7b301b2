import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { AgentError } from '../../shared/contract/errors.ts'
import { formatSize } from '../../shared/contract/units.ts'
import type { GateEnv } from './gate.ts'

const MANIFEST_BYTES = 5 * 2 ** 20
const BODY_BYTES = 2 ** 20
/** What is sent as a text inside JSON: manifests and workflows, 4 MiB each. */
const TAKES_A_FILE = /^\/v1\/(plan|runs|workflows\/check)$/
const BODY_MS = 30_000
const DEEPEST = 64
/** Objects and lists in one body. A million empty ones fit in 3 MB and cost a second and 300 MB to parse. */
const MOST_CONTAINERS = 20_000

/**
 * Takes a request's body before anything is made of it: in time, not too large, and as JSON neither deep nor of
 * countless parts, which JSON.parse takes and what comes after it does not.
 */
export const limitBody = (except: (path: string) => boolean): MiddlewareHandler<GateEnv> => {
  const small = limitBytes(BODY_BYTES)
  const large = limitBytes(MANIFEST_BYTES)
  return async (c, next) => {
    if (except(c.req.path)) return next()
    return (TAKES_A_FILE.test(c.req.path) ? large : small)(c, async () => {
      if (c.req.method !== 'GET' && c.req.method !== 'HEAD') checkNesting(await inTime(c.req.text()))
      await next()
    })
  }
}

const limitBytes = (maxSize: number): MiddlewareHandler<GateEnv> =>
  bodyLimit({
    maxSize,
    onError: () => {
      throw new AgentError('body_too_large', `the body is larger than ${formatSize(maxSize)}`)
    },
  })

const inTime = async (body: Promise<string>): Promise<string> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new AgentError('bad_request', `the body did not arrive within ${BODY_MS / 1000} s`))
    }, BODY_MS)
  })
  try {
    return await Promise.race([body, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Looks at brackets outside of strings alone; whether the text is JSON is for the parser to say. */
const checkNesting = (text: string): void => {
  let depth = 0
  let containers = 0
  let inString = false
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at]
    if (character === '"') inString = !inString
    else if (character === '\\' && inString) at += 1
    else if (inString) continue
    else if (character === '[' || character === '{') {
      depth += 1
      containers += 1
      if (depth > DEEPEST) throw new AgentError('bad_request', `the JSON is more than ${DEEPEST} levels deep`)
      if (containers > MOST_CONTAINERS)
        throw new AgentError('bad_request', `the JSON has more than ${MOST_CONTAINERS} objects and lists`)
    } else if (character === ']' || character === '}') depth -= 1
  }
}
