import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { scanFile, scanText } from '../../../agent/audit/scan-text.ts'

const secrets = [{ name: 'HF_TOKEN', value: 'value-of-the-token' }]

const scan = async (content: string | Buffer) => {
  const folder = mkdtempSync(join(tmpdir(), 'gpu-agent-audit-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'file'), content)
  const file = await open(join(folder, 'file'))
  onTestFinished(() => file.close())
  return scanFile(file, { secrets, signal: new AbortController().signal })
}

test('a known secret is told by name and line, and never shown', () => {
  const text = 'first\nexport HF_TOKEN=value-of-the-token; rest\n'
  expect(scanText(text, secrets)).toEqual({
    name: 'HF_TOKEN',
    line: 2,
    evidence: 'export HF_TOKEN=[HF_TOKEN]',
  })
})

test.each([
  ['a token of the hub', 'hf_abcdefghijklmnopqrstuvwx'],
  ['a key of AWS', 'AKIAIOSFODNN7EXAMPLE'],
  ['a token of GitHub', 'ghp_0123456789abcdefghijABCDEFGHIJ012345'],
])('%s is seen by its shape, though nobody declared it', (_, token) => {
  const found = scanText(`token: "${token}"`, secrets)
  expect(found).toMatchObject({ name: null, line: 1 })
  expect(found?.evidence).not.toContain(token.slice(4))
})

test('a secret across the border of two chunks is found, with its line', async () => {
  const line = 'x'.repeat(63) + '\n'
  const before = line.repeat(2 ** 20 / 64).slice(0, -10)
  expect(await scan(`${before}value-of-the-token\n`)).toMatchObject({ name: 'HF_TOKEN', line: 2 ** 14 })
  expect(await scan(`${line.repeat(3 * 2 ** 14)}value-of-the-token`)).toMatchObject({ line: 3 * 2 ** 14 + 1 })
})

test('what the terminal would obey is not in the evidence', () => {
  expect(scanText('a\u001b]52;c;\u0007 value-of-the-token', secrets)?.evidence).toBe('a ]52;c;  [HF_TOKEN]')
})

test('weights and pictures are passed over, an empty file has nothing', async () => {
  expect(await scan(Buffer.from('\0\0value-of-the-token'))).toBeUndefined()
  expect(await scan('')).toBeUndefined()
})
