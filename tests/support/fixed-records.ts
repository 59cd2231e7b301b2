import type { Problem } from '../../shared/contract/errors.ts'
import type { PythonCheck, PythonInstallRow, PythonPlanRecord } from '../../shared/contract/python-records.ts'
import type { PlanRecord, RunRecord, StatusRecord } from '../../shared/contract/records.ts'

const AT = '2026-11-21T10:00:00.000Z'

/** A healthy box with one of everything. */
export const aStatus = (): StatusRecord => ({
  agent: { id: 'a1b2c3', version: '0.1.0', pid: 4711, startedAt: AT, home: '/home/box' },
  host: {
    hostname: 'gpu-7',
    gpus: [
      {
        name: 'NVIDIA L40S',
        memoryTotalBytes: 48_000_000_000,
        memoryUsedBytes: 12_500_000_000,
        utilizationPercent: 37,
        driver: '570.86.10',
      },
    ],
    disks: [{ path: '/workspace', totalBytes: 500_000_000_000, freeBytes: 120_000_000_000 }],
    memory: { totalBytes: 128_000_000_000, freeBytes: 64_000_000_000 },
  },
  manifest: { name: 'demo', digest: 'd'.repeat(64), appliedAt: AT },
  run: aRun({ state: 'ready', endedAt: '2026-11-21T10:02:03.000Z' }),
  downloads: [
    {
      to: 'loras/style.safetensors',
      state: 'done',
      bytesDone: 1_234_567,
      bytesTotal: 1_234_567,
      source: 'hf://a/b@main/style.safetensors',
      sha256: 'e'.repeat(64),
      verifiedAt: AT,
      problem: null,
      bytesPerSecond: 0,
      etaSeconds: null,
      connections: 0,
      retries: 0,
    },
  ],
  processes: [
    {
      name: 'comfyui',
      kind: 'comfyui',
      state: 'ready',
      pid: 4712,
      restarts: 1,
      startedAt: AT,
      exitCode: null,
      signal: null,
      url: 'http://127.0.0.1:8188/',
      queue: { remaining: 2, progress: { done: 9, total: 20 } },
      problem: null,
    },
    {
      name: 'prepare',
      kind: 'command',
      state: 'exited',
      pid: null,
      restarts: 0,
      startedAt: AT,
      exitCode: 0,
      signal: null,
      url: null,
      queue: null,
      problem: null,
    },
  ],
  sync: [
    {
      name: 'checkpoints',
      state: 'idle',
      lastSuccessAt: AT,
      pendingFiles: 0,
      pendingBytes: 0,
      consecutiveFailures: 0,
      problem: null,
      pending: [],
      copying: null,
    },
  ],
  budget: null,
  healthy: true,
  problems: [],
})

export const aRun = (change: Partial<RunRecord> = {}): RunRecord => ({
  id: 'r1',
  manifest: { name: 'demo', digest: 'd'.repeat(64) },
  state: 'provisioning',
  startedAt: AT,
  endedAt: null,
  problems: [],
  progress: { bytesDone: 500_000, bytesTotal: 1_000_000, bytesPerSecond: 100_000, etaSeconds: 5 },
  ...change,
})

export const aPlan = (change: Partial<PlanRecord> = {}): PlanRecord => ({
  problems: [],
  changes: {
    downloads: [
      {
        to: 'loras/style.safetensors',
        action: 'fetch',
        sizeBytes: 1_234_567,
        source: 'hf://a/b@main/style.safetensors',
      },
      { to: 'vae/x.safetensors', action: 'keep', sizeBytes: null, source: 'https://example.test/x' },
    ],
    python: [{ name: 'natsort', from: null, to: '8.4.0' }],
    processes: [{ name: 'comfyui', action: 'start' }],
    later: [],
    left: {
      files: [{ path: '/models/old.safetensors', sizeBytes: 2_000_000 }],
      packages: [{ name: 'piq', version: '0.8.0' }],
    },
  },
  estimate: { downloadBytes: 1_234_567, seconds: 65, usd: null },
  unchecked: ['the size of vae/x.safetensors'],
  ...change,
})

/** A Python with one install into its overlay. */
export const aPython = (): {
  check: PythonCheck
  plan: PythonPlanRecord
  installs: PythonInstallRow[]
} => ({
  check: {
    interpreter: '/venv/main/bin/python',
    version: '3.11.7',
    overlay: '/var/lib/gpu-agent/python/0123456789ab/env',
    packages: 70,
    fingerprint: 'f'.repeat(64),
    sharedObjects: 306,
    protected: [
      { name: 'numpy', version: '2.2.6' },
      { name: 'torch', version: '2.9.1+cu128' },
    ],
    problems: [],
  },
  plan: { changes: [{ name: 'natsort', from: null, to: '8.4.0' }], problems: [] },
  installs: [
    {
      id: 'aaaaaaaaaaaa',
      state: 'committed',
      changes: [{ name: 'natsort', from: null, to: '8.4.0' }],
      reason: null,
      beganAt: '2026-11-21T10:00:00.000Z',
      endedAt: '2026-11-21T10:00:09.000Z',
      canRollBack: true,
    },
  ],
})

/** A problem of a process, changed as a test needs it. */
export const aProblem = (change: Partial<Problem>): Problem => ({
  code: 'process_failed',
  severity: 'error',
  subject: 'comfyui',
  message: 'ended with status 1',
  hint: 'Read its output: agentctl logs comfyui.',
  ...change,
})
