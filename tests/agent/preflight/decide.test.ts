import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { decide } from '../../../agent/preflight/decide.ts'
import type { Facts } from '../../../agent/preflight/facts.ts'
import { locateFiles, locateSnapshots } from '../../../agent/preflight/locate-files.ts'
import { readLimits } from '../../../agent/preflight/read-limits.ts'
import { parseGpus } from '../../../agent/platform/gpu.ts'
import { parseManifest } from '../../../shared/manifest/parse-manifest.ts'
import { checkSecrets, ON_THE_BOX } from '../../../shared/preflight/check-secrets.ts'
import type { SnapshotFact } from '../../../shared/preflight/source-facts.ts'

const A = 'a'.repeat(64)
const B = 'b'.repeat(64)
const GB = 1e9

const decideOn = (
  yaml: string,
  change: Partial<Facts> = {},
  packages: Parameters<typeof decide>[0]['packages'] = [],
) => {
  const { manifest } = parseManifest(`version: 1\nname: t\nmodels_root: /models\n${yaml}`, { file: 'm.yaml' })
  const files = locateFiles(manifest)
  const disk = { device: 1, path: '/models', freeBytes: 100 * GB, totalBytes: 200 * GB }
  const facts: Facts = {
    secrets: new Set(),
    sources: new Map(),
    snapshots: new Map(),
    tokens: new Map(),
    gitRefs: new Map(),
    provenSnapshots: new Set(),
    proven: new Map(),
    partialBytes: new Map(),
    disks: new Map([...files.map((file) => [file.path, disk] as const), ['/models', disk]]),
    gpus: null,
    folders: new Set(),
    programs: new Map(),
    portsInUse: new Set(),
    refusedPlaces: new Map(),
    comfyuis: new Map(),
    limits: { tasks: null, processors: null, processorsShown: 8 },
    clockAheadMs: 0,
    ...change,
  }
  return decide(
    {
      manifest,
      files,
      snapshots: locateSnapshots(manifest, '/root'),
      running: new Set(),
      packages,
      missing: new Map(),
      placeOf: () => undefined,
    },
    facts,
  )
}

const told = (decision: ReturnType<typeof decide>) =>
  decision.problems.map(({ code, severity, subject }) => `${severity} ${code} ${subject}`)

const answers = (sha256: string | null, sizeBytes: number | null = 5 * GB) =>
  ({ state: 'answers', reference: 'source', sha256, sizeBytes, gitSha1: null }) as const
const refused = {
  state: 'refused',
  problem: { code: 'gated', message: 'hf://o/r is gated', hint: 'accept' },
} as const

const TWO_SOURCES = `
downloads:
  - to: a.safetensors
    from: [hf://o/r@main/a.safetensors, https://mirror.example/a.safetensors]
`
const sources = (
  primary: ReturnType<typeof answers> | typeof refused,
  mirror: ReturnType<typeof answers> | typeof refused,
) =>
  new Map([
    ['hf://o/r@main/a.safetensors', primary],
    ['https://mirror.example/a.safetensors', mirror],
  ])

test.each([
  { what: 'both publish one hash', primary: answers(A), mirror: answers(A), problems: [] },
  {
    what: 'the mirror publishes nothing and the primary a hash',
    primary: answers(A),
    mirror: answers(null),
    problems: [],
  },
  {
    what: 'neither publishes a hash',
    primary: answers(null),
    mirror: answers(null),
    problems: ['warning mirror_unproven a.safetensors'],
  },
  {
    what: 'the mirror has another hash',
    primary: answers(A),
    mirror: answers(B),
    problems: ['error mirror_differs a.safetensors'],
  },
  {
    what: 'the mirror has another size',
    primary: answers(A),
    mirror: answers(null, 4 * GB),
    problems: ['error mirror_differs a.safetensors'],
  },
  {
    what: 'the primary refuses',
    primary: refused,
    mirror: answers(B),
    problems: ['warning gated a.safetensors', 'warning mirror_unproven a.safetensors'],
  },
  {
    what: 'the primary refuses and nothing proves the mirror',
    primary: refused,
    mirror: answers(null),
    problems: ['error gated a.safetensors', 'error mirror_unproven a.safetensors'],
  },
  {
    what: 'the mirror refuses',
    primary: answers(A),
    mirror: refused,
    problems: ['warning gated a.safetensors'],
  },
  {
    what: 'both refuse',
    primary: refused,
    mirror: refused,
    problems: ['error gated a.safetensors', 'error gated a.safetensors'],
  },
])('incidents A3 and A4: when $what the plan says $problems', ({ primary, mirror, problems }) => {
  expect(told(decideOn(TWO_SOURCES, { sources: sources(primary, mirror) }))).toEqual(problems)
})

test('the manifest’s sha256 proves a mirror when the primary refuses, and refuses a primary with another', () => {
  const withHash = `${TWO_SOURCES}    sha256: ${A}\n`
  expect(told(decideOn(withHash, { sources: sources(refused, answers(A)) }))).toEqual([
    'warning gated a.safetensors',
  ])
  expect(told(decideOn(withHash, { sources: sources(answers(B), answers(A)) }))).toEqual([
    'error hash_mismatch a.safetensors',
  ])
})

test('incident B8: a gated file that a program fetches by itself is an error before anything starts', () => {
  const yaml = 'requires: {access: ["hf://nvidia/Cosmos-Predict2.5-2B@main/tokenizer.pth"]}\n'
  const reference = 'hf://nvidia/Cosmos-Predict2.5-2B@main/tokenizer.pth'
  expect(told(decideOn(yaml, { sources: new Map([[reference, refused]]) }))).toEqual([
    `error gated ${reference}`,
  ])
  expect(told(decideOn(yaml, { sources: new Map([[reference, answers(null)]]) }))).toEqual([])
})

test('incident A5: an optional file that cannot be had is a warning, a required one an error', () => {
  const yaml = 'downloads:\n  - {to: a.safetensors, from: [hf://o/r@main/a.safetensors], optional: true}\n'
  const map = new Map([['hf://o/r@main/a.safetensors', refused]])
  expect(told(decideOn(yaml, { sources: map }))).toEqual(['warning gated a.safetensors'])
})

test('incident A1: a required secret that is missing is an error with its name', () => {
  const yaml = 'secrets: {required: [HF_TOKEN], optional: [CIVITAI_TOKEN]}\n'
  expect(told(decideOn(yaml))).toEqual([
    'error secret_missing HF_TOKEN',
    'warning secret_missing CIVITAI_TOKEN',
  ])
  expect(told(decideOn(yaml, { secrets: new Set(['HF_TOKEN', 'CIVITAI_TOKEN']) }))).toEqual([])
})

test('a name that several things need is one problem with all of them', () => {
  const { manifest } = parseManifest('version: 1\nname: t\nsecrets: {required: [KEY]}\n', { file: 'm.yaml' })
  const neededBy = new Map([['KEY', ['b2', 'trainer']]])
  expect(checkSecrets(manifest, { place: ON_THE_BOX, present: new Set(), neededBy })).toMatchObject([
    {
      subject: 'KEY',
      subjects: ['b2', 'trainer'],
      message: 'the box does not have KEY and b2, trainer need it',
    },
  ])
})

test('pickle formats are refused without allow_pickle', () => {
  const yaml = (allow: string) => `downloads:\n  - {to: a.ckpt, from: ["https://x.example/a.ckpt"]${allow}}\n`
  const map = new Map([['https://x.example/a.ckpt', answers(null)]])
  expect(told(decideOn(yaml(''), { sources: map }))).toEqual(['error pickle_refused a.ckpt'])
  expect(told(decideOn(yaml(', allow_pickle: true'), { sources: map }))).toEqual([])
})

test('case 77: everything that is to be fetched must fit, with exact numbers and every file named', () => {
  const yaml = `
requires: {disk_free: 10GB}
downloads:
  - {to: a.safetensors, from: ["https://x.example/a.safetensors"]}
  - {to: b.safetensors, from: ["https://x.example/b.safetensors"]}
`
  const map = new Map([
    ['https://x.example/a.safetensors', answers(A, 50 * GB)],
    ['https://x.example/b.safetensors', answers(B, 45 * GB)],
  ])
  const [problem] = decideOn(yaml, { sources: map }).problems
  expect(problem).toMatchObject({
    code: 'disk_too_small',
    subject: 'a.safetensors',
    subjects: ['b.safetensors'],
  })
  expect(problem?.message).toBe(
    'the disk of /models has 100.0 GB free; 105.0 GB are needed: 95.0 GB of downloads and 10.0 GB to stay free',
  )
  expect(
    told(decideOn(yaml, { sources: map, partialBytes: new Map([['/models/a.safetensors', 20 * GB]]) })),
  ).toEqual([])
  expect(
    told(decideOn(yaml, { sources: map, proven: new Map([['/models/b.safetensors', 95 * GB]]) })),
  ).toEqual([])
})

test('packages and downloads that share a disk must fit together; on two disks each must fit alone', () => {
  const yaml = 'downloads:\n  - {to: a.safetensors, from: ["https://x.example/a.safetensors"]}\n'
  const map = new Map([['https://x.example/a.safetensors', answers(A, 60 * GB)]])
  const shared = { device: 1, path: '/models', freeBytes: 100 * GB, totalBytes: 200 * GB }
  const on = (state: typeof shared) => {
    const disks = new Map([
      ['/models/a.safetensors', shared],
      ['/models', shared],
      ['/state', state],
    ])
    const packages = [{ to: 'python', path: '/state', bytes: 50 * GB, isOverlay: true }]
    return decideOn(yaml, { sources: map, disks }, packages).problems
  }
  expect(on(shared)).toMatchObject([
    {
      code: 'disk_too_small',
      subject: 'a.safetensors',
      subjects: ['python'],
      message:
        'the disk of /models has 100.0 GB free; 112.0 GB are needed: 60.0 GB of downloads, 50.0 GB of packages and 2.0 GB to stay free',
    },
  ])
  expect(on({ ...shared, device: 2, path: '/state' })).toEqual([])
  expect(on({ device: 2, path: '/state', freeBytes: 40 * GB, totalBytes: 200 * GB })).toMatchObject([
    { subject: 'python', message: expect.stringContaining('50.0 GB of packages and 2.0 GB') as string },
  ])
})

test('the GPU, its memory, its driver and its compute capability are held against what is required', () => {
  const yaml = 'requires: {gpu: {min_vram: 40GB, min_driver: "570.124.06", min_compute_capability: "8.9"}}\n'
  expect(told(decideOn(yaml))).toEqual(['error gpu_missing requires.gpu'])
  const small = parseGpus('NVIDIA A10, 23028, 0, 0, 550.54.15, 8.6\n')
  expect(told(decideOn(yaml, { gpus: small }))).toEqual([
    'error gpu_too_small requires.gpu.min_vram',
    'error driver_too_old requires.gpu.min_driver',
    'error gpu_too_small requires.gpu.min_compute_capability',
  ])
  const large = parseGpus('NVIDIA L40S, 46068, 3, 0, 570.124.06, 8.9\n')
  expect(told(decideOn(yaml, { gpus: large }))).toEqual([])
})

test('a missing working folder and a port in use are told for the process', () => {
  const yaml = 'processes:\n  web: {kind: comfyui, working_dir: /w, port: 8188}\n'
  expect(told(decideOn(yaml, { portsInUse: new Set([8188]) }))).toEqual([
    'error working_dir_missing web',
    'error port_in_use web',
  ])
  expect(told(decideOn(yaml, { folders: new Set(['/w']) }))).toEqual([])
})

const aSnapshot = (pickles: readonly string[] = [], sizeBytes = 30 * GB) =>
  ({
    state: 'answers',
    snapshot: {
      to: `hf://o/r@${'1'.repeat(40)}`,
      request: { snapshot: 'hf://o/r@main', include: [], exclude: [] },
      repoType: 'model',
      repo: 'o/r',
      revision: 'main',
      commit: '1'.repeat(40),
      files: [],
      sizeBytes,
      pickles,
    },
  }) as const

test('a repository is planned at one commit; gated, pickled or too large it is told', () => {
  const yaml = 'hf_home: /models\ndownloads: [{snapshot: "hf://o/r@main"}]\n'
  const on = (fact: SnapshotFact, change: Partial<Facts> = {}) =>
    decideOn(yaml, { snapshots: new Map([['hf://o/r@main', fact]]), ...change })
  expect(on(aSnapshot())).toMatchObject({
    problems: [],
    downloads: [{ to: `hf://o/r@${'1'.repeat(40)}`, action: 'fetch', sizeBytes: 30 * GB }],
    downloadBytes: 30 * GB,
  })
  expect(on(aSnapshot(), { provenSnapshots: new Set(['hf://o/r@main']) })).toMatchObject({
    downloads: [{ action: 'keep' }],
    downloadBytes: 0,
  })
  expect(told(on(refused))).toEqual(['error gated hf://o/r@main'])
  expect(told(on(aSnapshot(['a.bin', 'b.bin'])))).toEqual(['error pickle_refused hf://o/r@main'])
  expect(told(on(aSnapshot([], 900 * GB)))).toEqual([`error disk_too_small hf://o/r@${'1'.repeat(40)}`])
})

test('a host that shows many processors and allows few tasks, and a clock that is wrong, are told', () => {
  const yaml = 'processes:\n  a: {kind: command, command: [sleep, "1"]}\n'
  const limits = { tasks: 1024, processors: 46, processorsShown: 384 }
  const { problems } = decideOn(yaml, { limits, clockAheadMs: -20 * 60_000 })
  expect(problems.map(({ message }) => message)).toEqual([
    'the container allows 1024 processes and threads; the machine shows 384 processors and allows 46.0 of them',
    'the clock of the box is 20 min behind',
  ])
  expect(told(decideOn(yaml, { clockAheadMs: 60_000 }))).toEqual([])
})

test('the limits of a container are read from its control group, of either version', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'limits-'))
  try {
    expect(await readLimits(folder)).toMatchObject({ tasks: null, processors: null })
    mkdirSync(join(folder, 'pids'))
    mkdirSync(join(folder, 'cpu'))
    writeFileSync(join(folder, 'pids/pids.max'), 'max\n')
    writeFileSync(join(folder, 'cpu/cpu.cfs_quota_us'), '-1\n')
    writeFileSync(join(folder, 'cpu/cpu.cfs_period_us'), '100000\n')
    expect(await readLimits(folder)).toMatchObject({ tasks: null, processors: null })
    writeFileSync(join(folder, 'pids.max'), '1024\n')
    writeFileSync(join(folder, 'cpu.max'), '4600000 100000\n')
    expect(await readLimits(folder)).toMatchObject({ tasks: 1024, processors: 46 })
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a hub that cannot be reached is one problem, with everything that it keeps away', () => {
  const away = (reference: string) =>
    [
      reference,
      {
        state: 'refused',
        problem: {
          code: 'source_unavailable',
          message: `${reference}: hub.example cannot be reached`,
          hint: 'h',
        },
      },
    ] as const
  const [one, two, other] = ['hf://o/r@main/a', 'hf://o/q@main/b', 'https://mirror.example/c'] as const
  const decision = decideOn(
    `downloads:
  - {to: a.safetensors, from: ["${one}"]}
  - {to: b.safetensors, from: ["${two}"]}
  - {to: c.safetensors, from: ["${other}"]}
`,
    { sources: new Map([away(one), away(two), away(other)]) },
  )
  expect(decision.problems.map(({ subject, subjects }) => [subject, subjects])).toEqual([
    ['a.safetensors', ['b.safetensors']],
    ['c.safetensors', undefined],
  ])
})
