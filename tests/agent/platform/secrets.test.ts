import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createLog } from '../../../agent/platform/log.ts'
import { readSecrets } from '../../../agent/platform/secrets.ts'
import { temporaryFolder } from './temporary-folder.ts'

/** The three places where secrets are, as files. */
const placesOf = (contents: {
  env?: Record<string, string>
  file?: string
  init?: Record<string, string>
}) => {
  const folder = temporaryFolder()
  const file = join(folder, 'secrets.env')
  const init = join(folder, 'environ')
  if (contents.file !== undefined) writeFileSync(file, contents.file)
  if (contents.init !== undefined)
    writeFileSync(
      init,
      Object.entries(contents.init)
        .map(([name, value]) => `${name}=${value}\0`)
        .join(''),
    )
  return { file, secrets: readSecrets(contents.env ?? {}, { secrets: file }, init) }
}

describe('where a secret comes from', () => {
  test('the agent’s environment goes before the file, the file before the environment of PID 1', () => {
    const { secrets } = placesOf({
      env: { ONE: 'from env' },
      file: 'ONE=from file\nTWO="from file"\n',
      init: { ONE: 'from init', TWO: 'from init', THREE: 'from=init' },
    })
    expect(['ONE', 'TWO', 'THREE', 'FOUR'].map(secrets.get)).toEqual([
      'from env',
      'from file',
      'from=init',
      undefined,
    ])
  })

  test('an empty value counts as missing, so the next place is asked', () => {
    const { secrets } = placesOf({ env: { A: '' }, file: 'A=\nB=\n', init: { A: 'from init' } })
    expect(secrets.get('A')).toBe('from init')
    expect(secrets.get('B')).toBeUndefined()
  })

  test.each([
    ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'],
    ['HUGGINGFACE_HUB_TOKEN', 'HF_TOKEN'],
    ['CIVITAI_TOKEN', 'CIVITAI_API_KEY'],
  ])('%s is found under %s too', (asked, given) => {
    expect(placesOf({ file: `${given}=the value\n` }).secrets.get(asked)).toBe('the value')
  })

  test('a secret’s own name goes before its other names, an earlier place before a later one', () => {
    const { secrets } = placesOf({
      env: { HUGGING_FACE_HUB_TOKEN: 'other name in env' },
      file: 'HF_TOKEN=own name in file\n',
    })
    expect(secrets.get('HF_TOKEN')).toBe('other name in env')
    expect(placesOf({ file: 'HUGGING_FACE_HUB_TOKEN=b\nHF_TOKEN=a\n' }).secrets.get('HF_TOKEN')).toBe('a')
  })

  test('a secret that is set while the agent runs counts at once', () => {
    const { file, secrets } = placesOf({})
    expect(secrets.get('LATE')).toBeUndefined()
    writeFileSync(file, 'LATE=here\n')
    chmodSync(file, 0o600)
    expect(secrets.get('LATE')).toBe('here')
  })
})

describe('redaction', () => {
  const value = 'pa"ss\\wo rd/1'
  const secrets = readSecrets(
    { MINE: value, SHORT: 'abc', PART: 'secret', WHOLE: 'secret-and-more', HF_TOKEN: 'plainvalue' },
    { secrets: '/nowhere' },
    '/nowhere',
  )
  secrets.declare(['MINE', 'SHORT', 'PART', 'WHOLE'])

  test.each([
    ['a declared value', `it is ${value}.`, 'it is [MINE].'],
    ['a value in JSON', JSON.stringify({ a: value }), '{"a":"[MINE]"}'],
    ['a value in an address', `https://h/?q=${encodeURIComponent(value)}`, 'https://h/?q=[MINE]'],
    ['a value that holds another one', 'secret-and-more secret', '[WHOLE] [PART]'],
    ['a hub’s token without being declared', 'plainvalue', '[HF_TOKEN]'],
    ['a token that nobody declared', `x hf_${'a1B2'.repeat(8)} y`, 'x [hf token] y'],
    ['a token in an address', 'GET /a?x=1&token=abc&y=2', 'GET /a?x=1&token=[redacted]&y=2'],
    ['a signed address', 'https://h/a?X-Amz-Signature=abc&b=1', 'https://h/a?X-Amz-Signature=[redacted]&b=1'],
    ['a header', 'Authorization: Bearer abc.def', 'Authorization: Bearer [redacted]'],
    ['a value too short to be one', 'abc', 'abc'],
  ])('takes out %s', (_title, text, clean) => {
    expect(secrets.redact(text)).toBe(clean)
  })

  test('a log line stays JSON whatever was taken out of it', () => {
    const lines: string[] = []
    const log = createLog(
      (line) => lines.push(line),
      secrets.redact,
      () => new Date(0),
    )
    log.info('fetch "https://h/a?key=abc" failed', {
      value,
      header: 'authorization: "Bearer abc"',
      path: 'a\\b',
    })
    expect(lines).toHaveLength(1)
    expect(lines[0]).not.toContain('abc')
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      at: '1970-01-01T00:00:00.000Z',
      level: 'info',
      value: '[MINE]',
      path: 'a\\b',
    })
  })
})
