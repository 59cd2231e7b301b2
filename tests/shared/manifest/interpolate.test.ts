import { describe, expect, test } from 'vitest'
import { AgentError } from '../../../shared/contract/errors.ts'
import { interpolate } from '../../../shared/manifest/interpolate.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'
import { listReferences, resolveManifestSecrets } from '../../../shared/manifest/resolve-manifest-secrets.ts'

const VALUES: Readonly<Record<string, string>> = {
  A: 'alpha',
  B_2: '${A}',
  EMPTY: '',
  ROOT: '/data',
  UP: '/data/..',
}
const lookup = (name: string): string | undefined => VALUES[name]

describe('a text with references', () => {
  test.each([
    { text: 'plain $A', becomes: 'plain $A', title: 'without braces stays' },
    { text: '<${A}>', becomes: '<alpha>', title: 'takes the value' },
    { text: '${A}${A}', becomes: 'alphaalpha', title: 'takes the value each time' },
    { text: '${B_2}', becomes: '${A}', title: 'does not look into the value again' },
    { text: '$${A}', becomes: '${A}', title: 'keeps what is escaped' },
    { text: '$$${A}', becomes: '$${A}', title: 'escapes the nearest brace' },
  ])('“$text” $title', ({ text, becomes }) => {
    expect(interpolate(text, lookup)).toBe(becomes)
  })

  test('all names without a value are told, an empty value among them', () => {
    expect(() => interpolate('${A} ${NOPE} ${EMPTY}', lookup)).toThrow(
      expect.objectContaining({ code: 'secret_missing', message: 'there is no value for NOPE, EMPTY' }),
    )
    expect(() => interpolate('${NOPE}', lookup)).toThrow(AgentError)
  })
})

describe('a manifest with references', () => {
  const { manifest, at } = parseManifest(
    `version: 1
name: box
models_root: \${ROOT}/models
downloads: [{to: "\${UP}/x", from: [hf://a/b@main/c]}]
processes: {job: {kind: command, command: [sh, -c, "echo \${A}"], env: {TOKEN: "\${A}", RAW: "$\${A}"}}}
remotes: {b2: {type: b2, key: "\${NOPE}"}}
notify: {webhook: "\${EMPTY}"}
`,
    { file: 'box.yaml' },
  )

  test('lists each of them and where it stands', () => {
    expect(listReferences(manifest).map(({ name, path }) => `${path.join('.')} ${name}`)).toEqual([
      'models_root ROOT',
      'downloads.0.to UP',
      'processes.job.env.TOKEN A',
      'remotes.b2.key NOPE',
      'notify.webhook EMPTY',
    ])
  })

  test('takes the values, tells each missing name with its line, and refuses a path that leaves its folder', () => {
    const resolved = resolveManifestSecrets(manifest, { lookup, at })
    expect(resolved.manifest.models_root).toBe('/data/models')
    expect(resolved.manifest.processes['job']).toMatchObject({
      command: ['sh', '-c', 'echo ${A}'],
      env: { TOKEN: 'alpha', RAW: '${A}' },
    })
    expect(resolved.manifest.remotes['b2']).toEqual({ type: 'b2', key: '${NOPE}' })
    expect(resolved.problems.map(({ code, subject, at }) => `${at?.line} ${code} ${subject}`)).toEqual([
      '4 unsafe_path ${UP}/x',
      '6 secret_missing b2',
      '7 secret_missing notify.webhook',
    ])
  })
})
