import { expect, test } from 'vitest'
import { checkAddress, isPublicAddress } from '../../../shared/sources/address-policy.ts'
import { DEFAULT_ENDPOINTS } from '../../../shared/sources/endpoints.ts'

const policy = { endpoints: DEFAULT_ENDPOINTS, allowHosts: [] as string[] }

test.each([
  // the same few places, in every spelling that a resolver understands
  'https://127.0.0.1/a',
  'https://127.1/a',
  'https://2130706433/a',
  'https://0x7f000001/a',
  'https://0177.0.0.1/a',
  'https://0x7f.0.0.1/a',
  'https://127.0.0.1./a',
  'https://①②⑦.⓪.⓪.①/a',
  'https://0/a',
  'https://0.0.0.0/a',
  'https://[::1]/a',
  'https://[::]/a',
  'https://[0:0:0:0:0:0:0:1]/a',
  'https://[::ffff:127.0.0.1]/a',
  'https://[::ffff:7f00:1]/a',
  'https://[::127.0.0.1]/a',
  'https://[64:ff9b::7f00:1]/a',
  'https://[2002:7f00:1::]/a',
  'https://localhost/a',
  'https://LOCALHOST./a',
  'https://a.localhost/a',
  // private networks and metadata services
  'https://10.0.0.1/a',
  'https://172.31.255.255/a',
  'https://192.168.1.1/a',
  'https://100.64.0.1/a',
  'https://169.254.169.254/latest/meta-data/',
  'https://2852039166/latest/meta-data/',
  'https://[::ffff:a9fe:a9fe]/latest/meta-data/',
  'https://[fd00:ec2::254]/latest/meta-data/',
  'https://[fe80::1]/a',
  'https://metadata.google.internal/computeMetadata/v1/',
  'https://printer.local/a',
  'https://user:password@10.0.0.1/a',
  'https://example.com@127.0.0.1/a',
  'https://255.255.255.255/a',
  'https://224.0.0.1/a',
  // other ways than https
  'http://example.com/a',
  'file:///etc/passwd',
  'ftp://example.com/a',
  'gopher://example.com/a',
  'data:text/plain,a',
])('T37: %s is refused by what is written in it', (text) => {
  expect(() => checkAddress(new URL(text), policy)).toThrow(
    expect.objectContaining({ code: 'forbidden_address' }) as Error,
  )
})

test.each([
  'https://example.com/a',
  'https://8.8.8.8/a',
  'https://[2606:4700::1111]/a',
  'https://internal.example.com/a',
])('%s passes', (text) => {
  expect(() => checkAddress(new URL(text), policy)).not.toThrow()
})

test('what a person named passes, at that port alone where one was named', () => {
  const named = { ...policy, allowHosts: ['127.0.0.1:8080', 'mirror.lan', '::1'] }
  for (const text of [
    'http://127.0.0.1:8080/a',
    'http://2130706433:8080/',
    'http://mirror.lan:1/a',
    'http://[::1]/a',
  ])
    expect(() => checkAddress(new URL(text), named)).not.toThrow()
  for (const text of ['http://127.0.0.1/a', 'https://127.0.0.1:8081/a', 'http://a.mirror.lan/a'])
    expect(() => checkAddress(new URL(text), named)).toThrow()
})

test.each(['not an address', '', '127.0.0.1.nip.io', '1.2.3', '::ffff:'])(
  '%j is no public address',
  (text) => {
    expect(isPublicAddress(text)).toBe(false)
  },
)
