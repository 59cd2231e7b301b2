import { describe, expect, test } from 'vitest'
import { parseTarget, targetText } from '../../client/context/target.ts'

const USUAL = '/run/gpu-agent/agent.sock'

describe('the address of a box', () => {
  test.each([
    { text: 'box', user: undefined, host: 'box', port: undefined, socket: USUAL, as: 'ssh://box' },
    { text: 'root@1.2.3.4:40022', user: 'root', host: '1.2.3.4', port: 40022, socket: USUAL },
    {
      text: 'ssh://root@box:22/',
      user: 'root',
      host: 'box',
      port: 22,
      socket: USUAL,
      as: 'ssh://root@box:22',
    },
    {
      text: 'ssh://box/srv/run/agent.sock',
      user: undefined,
      host: 'box',
      port: undefined,
      socket: '/srv/run/agent.sock',
    },
    { text: 'me@[fe80::1]:22', user: 'me', host: 'fe80::1', port: 22, socket: USUAL },
  ])('$text is read and written back', ({ text, as, ...expected }) => {
    const target = parseTarget(text)
    expect(target).toEqual({ kind: 'ssh', ...expected })
    expect(targetText(target)).toBe(as ?? `ssh://${text.replace(/^ssh:\/\//, '')}`)
    expect(parseTarget(targetText(target))).toEqual(target)
  })

  test.each([
    { text: 'https://1.2.3.4:8443', host: '1.2.3.4', port: 8443 },
    { text: 'https://box/', host: 'box', port: 443, as: 'https://box:443' },
    { text: 'https://[2001:db8::1]:8443', host: '2001:db8::1', port: 8443 },
  ])('$text is an address of TLS', ({ text, host, port, as }) => {
    const target = parseTarget(text)
    expect(target).toEqual({ kind: 'https', host, port, pin: undefined })
    expect(targetText(target)).toBe(as ?? text)
  })

  test.each([
    '',
    'https://',
    'https://box:0',
    'https://box:99999',
    'https://user@box:1',
    'https://box:1/path',
    'https://-x:1',
    '-oProxyCommand=touch x',
    'root@-oProxyCommand=x',
    '-l@box',
    'ssh://-x',
    'box;touch',
    'box x',
    'a@b@c',
    'box:0',
    'box:99999',
    'box:22/srv/agent.sock',
    'ssh://box/srv/$(x)/agent.sock',
    'ssh://box/srv/a:b',
    `ssh://box/${'x'.repeat(200)}`,
    '[::g]:22',
    'http://box',
    'unix:relative.sock',
  ])('%j is refused', (text) => {
    expect(() => parseTarget(text)).toThrow(expect.objectContaining({ code: 'usage' }) as Error)
  })
})
