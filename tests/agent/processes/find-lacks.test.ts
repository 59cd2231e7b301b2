import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { findLacks } from '../../../agent/processes/find-lacks.ts'
import { planProcess } from '../../../agent/processes/planned-process.ts'
import { ProcessSpec } from '../../../shared/manifest/schema.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'lacks-'))
  mkdirSync(join(folder, 'bin'))
  writeFileSync(join(folder, 'there.sh'), '#!/bin/sh\n', { mode: 0o755 })
  writeFileSync(join(folder, 'not-executable'), '')
})
afterAll(() => rmSync(folder, { recursive: true }))

const lacksOf = (command: readonly string[], more: Readonly<Record<string, unknown>> = {}) =>
  findLacks(
    planProcess('p', ProcessSpec.parse({ kind: 'command', working_dir: folder, command, ...more }), {
      interpreter: null,
      binFolder: null,
      environment: {},
    }),
  ).map(({ what, path }) => [what, path])

test('a program, a script and a user that are not there are found before anything is started', () => {
  expect(lacksOf(['no-such-program'])).toEqual([['program', 'no-such-program']])
  expect(lacksOf(['/no/such/program'])).toEqual([['program', '/no/such/program']])
  expect(lacksOf(['./not-executable'])).toEqual([['program', './not-executable']])
  expect(lacksOf(['sh', 'gone.sh'])).toEqual([['script', join(folder, 'gone.sh')]])
  expect(lacksOf(['sleep', '1'], { user: 'nobody-here' })).toEqual([['account', 'nobody-here']])
  expect(lacksOf(['./there.sh'])).toEqual([])
  expect(lacksOf(['sh', 'there.sh'])).toEqual([])
  expect(lacksOf(['sh', '-c', 'gone.sh'])).toEqual([])
  expect(lacksOf(['no-such-program'], { working_dir: '/no/such/folder' })).toEqual([])
})

test('a ComfyUI without its program is found out', () => {
  const spec = ProcessSpec.parse({ kind: 'comfyui', working_dir: folder })
  const plan = planProcess('ui', spec, { interpreter: null, binFolder: null, environment: {} })
  expect(findLacks(plan).map(({ path }) => path)).toContain(join(folder, 'main.py'))
})
