import { AgentError } from '../../../shared/contract/errors.ts'
import type { Box } from '../box.ts'
import { requireScope } from '../gate.ts'
import type { Upstream } from '../web-proxy.ts'
import { proxyRequest, proxyUpgrade } from '../web-proxy.ts'
import { createRouter } from './router.ts'

const PATH = '/processes/:name/web/*'

/** True for requests that belong to a process's page: they may be as large as the page takes them. */
export const isWebPath = (path: string): boolean => /^\/v1\/processes\/[^/]+\/web\//.test(path)

/** The web page of a process, whatever its methods: not described for OpenAPI, because it is not ours. */
export const webRoutes = (box: Box) => {
  const router = createRouter()
  router.all(PATH, requireScope('operate'), (c) => {
    const name = c.req.param('name')
    const upstream = upstreamOf(box, { name, url: c.req.url })
    const { upgrade } = c.env
    box.processes.noteWebUse(name)
    if (upgrade === undefined) return proxyRequest(c.req.raw, upstream)
    const accept = proxyUpgrade(upstream, () => box.processes.noteWebUse(name))
    upgrade.accept = (incoming, socket, head) => {
      // An open page is somebody who looks, however silent its socket is.
      const leave = box.openWork.enter(`the page of ${name}`)
      if (socket.destroyed) leave()
      socket.once('close', leave)
      accept(incoming, socket, head)
    }
    return c.body(null, 200)
  })
  return router
}

/** @throws AgentError not_found, process_not_ready */
const upstreamOf = (box: Box, asked: { readonly name: string; readonly url: string }): Upstream => {
  const { url, pid, state } = box.processes.row(asked.name)
  if (url === null)
    throw new AgentError('not_found', `${asked.name} has no web page`, {
      hint: 'A command has one when its ready says http or port.',
    })
  if (pid === null) throw new AgentError('process_not_ready', `${asked.name} is ${state}`)
  const { hostname, port } = new URL(url)
  const { pathname, search } = new URL(asked.url)
  const path = pathname.replace(/^\/v1\/processes\/[^/]+\/web/, '')
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80), path: `${path}${search}` }
}
