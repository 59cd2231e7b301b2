import { expect, test } from 'vitest'
import { checkScope } from '../../../agent/apply/check-scope.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'

const manifest = (unsafe: readonly string[]) =>
  parseManifest(
    JSON.stringify({
      version: 1,
      name: 'it',
      processes: { job: { kind: 'command', command: ['true'], unsafe_env: unsafe } },
    }),
    { file: 'it.yaml' },
  ).manifest

test('T39: unsafe_env is for admins, and for the manifest that the box itself holds', () => {
  expect(() => checkScope(manifest(['LD_PRELOAD']), 'operate')).toThrow(
    'processes.job.unsafe_env (LD_PRELOAD) needs a token with the scope admin; this one has operate',
  )
  checkScope(manifest(['LD_PRELOAD']), 'admin')
  checkScope(manifest(['LD_PRELOAD']), undefined)
  checkScope(manifest([]), 'operate')
})
