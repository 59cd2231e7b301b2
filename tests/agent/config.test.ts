import { expect, test } from 'vitest'
import { readConfig } from '../../agent/config.ts'

const configOf = (argv: readonly string[], environment: Readonly<Record<string, string>> = {}) => {
  const invocation = readConfig(argv, { AGENT_HOME: '/srv/agent', ...environment })
  if (invocation.command !== 'serve') throw new Error(invocation.command)
  return invocation.config
}

test('without --listen there is one socket and no port', () => {
  expect(configOf([])).toMatchObject({ sockets: ['/srv/agent/run/agent.sock'], tls: [] })
})

test('every --listen counts, beside the usual socket', () => {
  const listen = ['unix:/srv/other.sock', 'tls://0.0.0.0:8443', 'tls://[::1]:1', 'tls://box.example:65535']
  const expected = {
    sockets: ['/srv/agent/run/agent.sock', '/srv/other.sock'],
    tls: [
      { host: '0.0.0.0', port: 8443 },
      { host: '::1', port: 1 },
      { host: 'box.example', port: 65_535 },
    ],
  }
  expect(configOf(listen.flatMap((one) => ['--listen', one]))).toMatchObject(expected)
  expect(configOf([], { AGENT_LISTEN: listen.join(',') })).toMatchObject(expected)
  // A flag wins over its variable.
  expect(configOf(['--listen', 'unix:/a.sock'], { AGENT_LISTEN: listen.join(',') }).tls).toEqual([])
})

test.each([
  'tls://',
  'tls://host',
  'tls://host:0',
  'tls://host:99999',
  'tls://a b:1',
  'tcp://host:1',
  'unix:x',
  '',
])('--listen %j is a usage error', (listen) => {
  expect(() => configOf(['--listen', listen])).toThrow(
    expect.objectContaining({
      code: 'usage',
      message: expect.stringContaining('neither unix') as string,
    }) as Error,
  )
})
