import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { AgentError } from '../../../shared/contract/errors.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'
import { BAD_MANIFESTS } from './bad-manifests.ts'

const EXAMPLES = ['comfyui-video.yaml', 'cosmos-transfer.yaml'] as const
const readExample = (name: string): string =>
  readFileSync(join(import.meta.dirname, '../../../examples', name), 'utf8')
const HEAD = 'version: 1\nname: box\n'

/** The error of a text that must not parse. */
const refusalOf = (input: string | Uint8Array): AgentError => {
  try {
    parseManifest(input, { file: 'box.yaml' })
  } catch (error) {
    if (error instanceof AgentError) return error
    throw error
  }
  throw new Error('the manifest parses')
}

describe('a good manifest', () => {
  test.each(EXAMPLES)('%s parses', (name) => {
    const text = readExample(name)
    const { manifest, digest } = parseManifest(text, { file: name })
    expect(manifest.version).toBe(1)
    expect(digest).toBe(createHash('sha256').update(text).digest('hex'))
    expect(manifest.downloads.length).toBeGreaterThan(0)
    expect(Object.keys(manifest.processes)).toHaveLength(1)
  })

  test('sizes become bytes, durations milliseconds, and what is left out has its default', () => {
    const { manifest } = parseManifest(
      `${HEAD}requires: {disk_free: 1.5GB, gpu: {min_vram: 40GiB}}
processes:
  ui: {kind: comfyui, working_dir: /c, env: {A: 1, B: true}}
  job: {kind: cosmos, working_dir: /c, command: [x], stall_after: 1h30m}
sync: [{name: s, path: /a, to: /b}]
`,
      { file: 'box.yaml' },
    )
    expect(manifest.requires.disk_free).toBe(1_500_000_000)
    expect(manifest.requires.gpu?.min_vram).toBe(40 * 2 ** 30)
    expect(manifest.processes['ui']).toMatchObject({
      port: 8188,
      restart: 'always',
      retries: 3,
      env: { A: '1', B: 'true' },
      stop: { signal: 'SIGINT', timeout: 10_000 },
    })
    expect(manifest.processes['job']).toMatchObject({
      restart: 'never',
      guardrails: false,
      stall_after: 5_400_000,
    })
    expect(manifest.sync[0]).toMatchObject({ every: 120_000, settle: 10_000, include: [], versions: true })
    expect(manifest.downloads).toEqual([])
  })

  test('YAML 1.2 is read: yes is text, an anchor is followed, bytes and a byte order mark are taken', () => {
    const text = `\ufeff${HEAD}processes:
  a: {kind: command, command: &program [yes, 'no']}
  b: {kind: command, command: *program}
`
    const { manifest } = parseManifest(new TextEncoder().encode(text), { file: 'box.yaml' })
    expect(manifest.processes['b']).toMatchObject({ command: ['yes', 'no'] })
  })

  test('a place is told for every part, and for what is absent the thing that should hold it', () => {
    const { at } = parseManifest(
      `${HEAD}models_root: /m
downloads:
  - to: a
    from:
      - hf://a/b@main/c
processes:
  ui:
    kind: comfyui
    working_dir: /c
`,
      { file: 'box.yaml' },
    )
    const place = (...path: (string | number)[]): string => {
      const { file, line, column } = at(path)
      return `${file}:${line}:${column}`
    }
    expect(place('models_root')).toBe('box.yaml:3:14')
    expect(place('downloads')).toBe('box.yaml:4:1')
    expect(place('downloads', 0)).toBe('box.yaml:5:5')
    expect(place('downloads', 0, 'from', 0)).toBe('box.yaml:7:9')
    expect(place('downloads', 0, 'sha256')).toBe('box.yaml:5:5')
    expect(place('processes', 'ui')).toBe('box.yaml:9:3')
    expect(place('processes', 'ui', 'port')).toBe('box.yaml:9:3')
    expect(place('budget')).toBe('box.yaml:1:1')
  })

  test('a file of a repository may have spaces and every other sign in its name', () => {
    const source = 'hf://a/b@main/my modèle 100% #1?.safetensors'
    const { manifest } = parseManifest(`${HEAD}downloads: [{to: /m, from: ["${source}"]}]\n`, {
      file: 'box.yaml',
    })
    expect(manifest.downloads).toMatchObject([{ from: [source] }])
  })

  test('a shell’s own ${…} in a command is left alone', () => {
    const { manifest } = parseManifest(
      `${HEAD}processes: {job: {kind: command, command: [sh, -c, 'echo "\${HOME}" "\${1:-x}"']}}\n`,
      { file: 'box.yaml' },
    )
    expect(manifest.processes['job']).toMatchObject({ command: ['sh', '-c', 'echo "${HOME}" "${1:-x}"'] })
  })
})

describe('a bad manifest', () => {
  test.each(BAD_MANIFESTS)('$title is told at its line', ({ text, place, code, subject, message, hint }) => {
    const error = refusalOf(text)
    expect(error.code).toBe('invalid_manifest')
    expect(error.problems).toHaveLength(1)
    const [problem] = error.problems ?? []
    expect({ ...problem, at: `${problem?.at?.line}:${problem?.at?.column}` }).toEqual({
      severity: 'error',
      code,
      subject,
      at: place,
      message,
      hint,
    })
    expect(problem?.at?.file).toBe('box.yaml')
    expect(error.message).toContain(`box.yaml:${place}`)
  })

  test('every problem is told at once, in the order of the lines', () => {
    const error = refusalOf(`version: 1
name: my box
downloads:
  - {to: a, frm: [hf://a/b@main/c]}
processes:
  a: {kind: command, command: [x], depends_on: [b]}
  b: {kind: command, command: [x], depends_on: [a], restart: alway}
remotes: {b2: {type: b2, key: abcdefgh}}
sync: [{name: s, path: /a, to: "b3:x", every: 5}]
budget: {max_cost: 5}
`)
    expect(error.problems?.map(({ at, code }) => `${at?.line} ${code}`)).toEqual([
      '2 invalid_manifest',
      '4 invalid_manifest',
      '4 invalid_manifest',
      '7 invalid_manifest',
      '7 invalid_manifest',
      '8 secret_in_manifest',
      '9 invalid_manifest',
      '9 invalid_manifest',
      '10 invalid_manifest',
    ])
    expect(error.message).toMatch(/^box\.yaml has 9 problems; the first: box\.yaml:2:7/)
  })

  test('no message, subject or hint holds the value of a secret', () => {
    const token = `hf_${'a1B2'.repeat(8)}`
    const error = refusalOf(`${HEAD}secrets: {required: [${token}], ${token}: x}
downloads: [{to: /${token}, from: ["https://u:${token}@h/x"]}, {snapshot: "hf://a/b?token=verysecret"}]
custom_nodes: [{git: "https://user:hunter22@github.com/a/b", ref: "${token}!"}]
remotes: {b2: {type: b2, key: hunter22}, ${token}: {}}
processes: {job: {kind: ${token}, env: {DB_PASSWORD: hunter22}}}
notify: {webhook: ${token}}
`)
    expect(error.problems?.length).toBeGreaterThan(8)
    expect(JSON.stringify([error.message, error.hint, error.problems])).not.toMatch(
      /a1B2a1B2|hunter22|verysecret/,
    )
  })

  test('bytes that are not UTF-8 are told with their line', () => {
    const [problem] = refusalOf(Buffer.from('version: 1\nname: caf\xe9\n', 'latin1')).problems ?? []
    expect(problem).toMatchObject({ message: 'the manifest is not UTF-8', at: { line: 2, column: 10 } })
  })

  test('more than 4 MiB is not read', () => {
    expect(refusalOf(`${HEAD}# ${'x'.repeat(4 * 2 ** 20)}`).message).toContain('at most 4194304 are read')
  })

  const bomb = Array.from(
    { length: 12 },
    (_, level) =>
      `a${level}: &a${level} [${Array.from({ length: 9 }, () => (level === 0 ? '1' : `*a${level - 1}`)).join(', ')}]`,
  ).join('\n')
  test.each([
    { title: 'aliases of aliases of aliases', text: bomb, says: 'the aliases repeat too much' },
    { title: 'brackets without end', text: `a: ${'['.repeat(2 ** 20)}`, says: 'nested too deeply' },
    { title: 'dashes without end', text: '- '.repeat(2 ** 20), says: 'nested too deeply' },
    { title: 'forty levels', text: `a: ${'['.repeat(40)}${']'.repeat(40)}`, says: 'nested too deeply' },
  ])('$title are refused without exhausting the agent', ({ text, says }) => {
    const error = refusalOf(text)
    expect(error.message).toContain(says)
    expect(error.problems?.[0]?.at?.line).toBeGreaterThan(0)
  })
})

describe('damaged manifests', () => {
  /** A small generator with a seed, so that a failure can be repeated (xorshift32). */
  const numbersFrom = (seed: number) => {
    let state = seed
    return (below: number): number => {
      state ^= state << 13
      state ^= state >>> 17
      state ^= state << 5
      return (state >>> 0) % below
    }
  }

  test.each(EXAMPLES)('%s, cut and mutated 300 times, parses or is refused with places', (name) => {
    const original = Buffer.from(readExample(name))
    const next = numbersFrom(20_260_101)
    const pieces = [
      '\t',
      '{',
      '[',
      '"',
      ': ',
      '- ',
      '&a ',
      '*a',
      '!!',
      '${',
      '\0',
      '\xff',
      '~',
      '9e999',
      '|',
      '%',
    ]
    let refused = 0
    for (let round = 0; round < 300; round += 1) {
      let bytes = Buffer.from(original)
      if (round % 3 === 0) bytes = bytes.subarray(0, next(bytes.length))
      for (let change = next(4); change > 0 && bytes.length > 0; change -= 1) {
        const offset = next(bytes.length)
        const piece = Buffer.from(pieces[next(pieces.length)] ?? '', 'latin1')
        bytes = Buffer.concat([bytes.subarray(0, offset), piece, bytes.subarray(offset + next(3))])
      }
      try {
        parseManifest(bytes, { file: name })
      } catch (error) {
        refused += 1
        expect(error, `round ${round}`).toBeInstanceOf(AgentError)
        const { code, problems } = error as AgentError
        expect(code).toBe('invalid_manifest')
        expect(problems?.length).toBeGreaterThan(0)
        for (const { at } of problems ?? []) {
          expect(at?.line).toBeGreaterThan(0)
          expect(at?.column).toBeGreaterThan(0)
        }
      }
    }
    expect(refused).toBeGreaterThan(100)
  })
})
