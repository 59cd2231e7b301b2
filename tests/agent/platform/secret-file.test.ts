import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openSecretFile } from '../../../agent/platform/secret-file.ts'
import { readSecrets } from '../../../agent/platform/secrets.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ga-secret-'))
})
afterEach(() => rmSync(folder, { recursive: true }))
const path = () => join(folder, 'secrets.env')

test.each([
  'plain',
  'with space',
  "it's",
  'a"b',
  'a#b',
  'a\\nb',
  '$HOME',
  'ümläut',
  '`tick',
  ' lead and trail ',
])('the value %j is read back as it was given', (value) => {
  openSecretFile(path()).set('HF_TOKEN', value)
  expect(readSecrets({}, { set: path(), secrets: '/nowhere' }, '/nowhere').get('HF_TOKEN')).toBe(value)
})

test('the file is readable by its user alone, keeps the other secrets, and tells names only', () => {
  const file = openSecretFile(path())
  file.set('B_KEY', 'two')
  file.set('A_KEY', 'one')
  file.set('B_KEY', 'three')
  expect(statSync(path()).mode & 0o777).toBe(0o600)
  expect(file.names()).toEqual(['A_KEY', 'B_KEY'])
  file.remove('A_KEY')
  expect(file.names()).toEqual(['B_KEY'])
  expect(readSecrets({}, { set: path(), secrets: '/nowhere' }, '/nowhere').get('B_KEY')).toBe('three')
})

test.each([
  ['lower', 'x', 'is not the name of a secret'],
  ['LD_PRELOAD=1', 'x', 'is not the name of a secret'],
  ['A', '', 'is empty'],
  ['A', 'two\nlines', 'cannot be kept'],
  ['A', "'and`", 'cannot be kept'],
])('the secret %j with the value %j is refused and nothing is written', (name, value, said) => {
  const file = openSecretFile(path())
  expect(() => file.set(name, value)).toThrow(said)
  expect(file.names()).toEqual([])
})

test('removing what is not there says so', () => {
  expect(() => openSecretFile(path()).remove('NOPE')).toThrow('there is no secret NOPE')
})

test('a secret that is set renews the one that the box was created with, until it is removed', () => {
  const file = openSecretFile(path())
  const secrets = readSecrets({ S3_KEY: 'expired' }, { set: path(), secrets: '/nowhere' }, '/nowhere')
  file.set('S3_KEY', 'renewed')
  expect(secrets.get('S3_KEY')).toBe('renewed')
  file.remove('S3_KEY')
  expect(secrets.get('S3_KEY')).toBe('expired')
})
