import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { pipeline } from 'node:stream'

const git = (cwd: string, ...args: string[]): string => {
  const ended = spawnSync('git', args, {
    cwd,
    encoding: 'utf8',
    env: {
      PATH: process.env['PATH'],
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_AUTHOR_NAME: 'a',
      GIT_AUTHOR_EMAIL: 'a@example.com',
      GIT_COMMITTER_NAME: 'a',
      GIT_COMMITTER_EMAIL: 'a@example.com',
    },
  })
  if (ended.status !== 0) throw new Error(`git ${args.join(' ')}: ${ended.stderr}`)
  return ended.stdout.trim()
}

/** A repository under `folder` that a server can serve. */
export const makeRepository = (folder: string, name: string) => {
  const path = join(folder, name)
  mkdirSync(path, { recursive: true })
  git(path, 'init', '--quiet', '--initial-branch', 'main')
  return {
    path,
    /** Commits one file and returns the commit. */
    commit: (file: string, text: string): string => {
      writeFileSync(join(path, file), text)
      git(path, 'add', '--', file)
      git(path, 'commit', '--quiet', '-m', file)
      return git(path, 'rev-parse', 'HEAD')
    },
    tag: (tag: string): string => git(path, 'tag', '-a', '-m', tag, tag),
  }
}

/** Serves the repositories of a folder over http with git's own backend; counts what is asked. */
export const serveRepositories = async (folder: string) => {
  const requests: string[] = []
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://git')
    requests.push(url.pathname)
    const backend = spawn('git', ['-c', 'http.uploadpack=true', 'http-backend'], {
      env: {
        PATH: process.env['PATH'],
        GIT_PROJECT_ROOT: folder,
        GIT_HTTP_EXPORT_ALL: '1',
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_PROTOCOL: request.headers['git-protocol'] as string | undefined,
        PATH_INFO: url.pathname,
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method,
        CONTENT_TYPE: request.headers['content-type'],
        HTTP_CONTENT_ENCODING: request.headers['content-encoding'],
      },
    })
    pipeline(request, backend.stdin, () => undefined)
    let head = ''
    const readHead = (chunk: Buffer): void => {
      head += chunk.toString('latin1')
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      backend.stdout.off('data', readHead)
      for (const line of head.slice(0, end).split('\r\n')) {
        const [name = '', value = ''] = line.split(': ')
        if (name === 'Status') response.statusCode = Number.parseInt(value, 10)
        else response.setHeader(name, value)
      }
      response.write(Buffer.from(head.slice(end + 4), 'latin1'))
      backend.stdout.pipe(response)
    }
    backend.stdout.on('data', readHead)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const host = `127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`
  return {
    host,
    url: `http://${host}`,
    requests,
    close: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}
