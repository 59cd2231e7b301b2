import { mkdtempSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { makeFolders } from '../../shared/make-folders.ts'

test('folders are made with those above them, and are no error when they are there', async () => {
  const path = join(mkdtempSync(join(tmpdir(), 'gpu-agent-folders-')), 'a', 'b', 'c')
  await makeFolders(path, { mode: 0o700 })
  await makeFolders(path)
  expect(statSync(path).mode & 0o777).toBe(0o700)
})

test('where no folder can be made the failure is told instead of tried for ever', async () => {
  await expect(makeFolders('/proc/gpu-agent/a/b')).rejects.toMatchObject({ code: 'ENOENT' })
})

test('a file in the place of a folder is told', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'gpu-agent-folders-')), 'file')
  writeFileSync(file, '')
  await expect(makeFolders(file)).rejects.toMatchObject({ code: 'EEXIST' })
  await expect(makeFolders(join(file, 'a', 'b'))).rejects.toMatchObject({ code: 'ENOTDIR' })
})
