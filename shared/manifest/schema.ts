import { z } from 'zod'
import { parseDuration, parseSize } from '../contract/units.ts'

/*
 * The manifest, version 1: what a box should be. Keys are the user's words, so they stay as they are written
 * (snake_case) in the parsed type too; only sizes become bytes and durations milliseconds.
 * Messages are completed with file, line and the nearest known key by parse.ts.
 */

/** `10GB`, `512MiB` or a number of bytes → bytes. */
const size = z.union([z.string(), z.number()]).transform((value, context): number => {
  const bytes = parseSize(String(value))
  if (bytes !== undefined) return bytes
  context.issues.push({ code: 'custom', message: 'is not a size; write 10GB or 512MiB', input: value })
  return z.NEVER
})

/** `90s`, `2m`, `1h30m` → milliseconds. */
const duration = z.string('is not a duration; write 90s, 2m or 1h30m').transform((value, context): number => {
  const ms = parseDuration(value)
  if (ms !== undefined) return ms
  context.issues.push({ code: 'custom', message: 'is not a duration; write 90s, 2m or 1h30m', input: value })
  return z.NEVER
})

const secretName = z
  .string()
  .regex(/^[A-Z][A-Z0-9_]*$/, 'is not the name of a secret; write names only, like HF_TOKEN, never values')
const name = z
  .string()
  .regex(/^[a-z0-9][a-z0-9_-]{0,62}$/i, 'may hold letters, digits, “-” and “_”, at most 63 characters')
const path = z.string().min(1, 'is empty')
const absolutePath = path.refine((value) => /^(\/|\$\{)/.test(value), 'must be an absolute path')
const sha256 = z
  .string()
  .regex(/^[0-9a-f]{64}$/i, 'is not a sha256: 64 hexadecimal digits')
  .toLowerCase()
const source = z
  .string()
  .regex(
    /^(hf|civitai|https?):\/\/\S+$/,
    'is not a source; write hf://owner/repo@revision/path, civitai://versions/ID or https://…',
  )
const gitUrl = z
  .string()
  .regex(/^https?:\/\/[^\s@]+$/, 'must be an https address without a user or a password in it')
const gitRef = z
  .string()
  .regex(
    /^[0-9A-Za-z][\w./-]{0,199}$/,
    'is not a git ref: a branch, a tag or a commit of 40 hexadecimal digits',
  )

const flag = (byDefault: boolean) => z.boolean().default(byDefault)
const list = <T extends z.ZodType>(item: T) => z.array(item).default([])

export const FileDownload = z.strictObject({
  to: path,
  from: z.array(source).min(1, 'needs at least one source'),
  sha256: sha256.optional(),
  size: z.number().int().nonnegative().optional(),
  optional: flag(false),
  allow_pickle: flag(false),
  race: flag(false),
})
export type FileDownload = z.infer<typeof FileDownload>

export const SnapshotDownload = z.strictObject({
  snapshot: z.string().regex(/^hf:\/\/\S+$/, 'must be hf://owner/repo@revision'),
  include: list(z.string()),
  exclude: list(z.string()),
  optional: flag(false),
  allow_pickle: flag(false),
})
export type SnapshotDownload = z.infer<typeof SnapshotDownload>

const PipInstall = z.strictObject({
  spec: z
    .string()
    .min(1, 'is empty')
    .refine((spec) => !spec.startsWith('-'), 'is a pip option, not a requirement'),
  no_deps: flag(false),
})
const GitInstall = z.strictObject({
  git: gitUrl,
  ref: gitRef,
  no_deps: flag(false),
  no_build_isolation: flag(false),
})
export type PythonInstall = z.infer<typeof PipInstall> | z.infer<typeof GitInstall>

export const Python = z.strictObject({
  interpreter: absolutePath,
  protect: list(z.string()),
  requirements: list(absolutePath),
  install: list(z.union([PipInstall, GitInstall])),
  imports: list(z.string().regex(/^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$/, 'is not the name of a Python module')),
})
export type Python = z.infer<typeof Python>

export const CustomNode = z.strictObject({ git: gitUrl, ref: gitRef, optional: flag(false) })
export type CustomNode = z.infer<typeof CustomNode>

const environment = z.record(
  z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not the name of an environment variable'),
  z.union([z.string(), z.number(), z.boolean()]).transform(String),
)
const port = z.number().int().min(1).max(65_535)
const restart = z.enum(['always', 'on-failure', 'never'])

const Stop = z.strictObject({
  signal: z.enum(['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP']).default('SIGINT'),
  timeout: duration.default(10_000),
})

const Ready = z
  .strictObject({
    http: z
      .string()
      .regex(/^http:\/\/(127\.0\.0\.1|localhost|\[::1\])[:/]/, 'must be an http address on loopback')
      .optional(),
    log: z.string().optional(),
    port: port.optional(),
    within: duration.default(60_000),
  })
  .refine(
    (ready) => [ready.http, ready.log, ready.port].filter((one) => one !== undefined).length === 1,
    'needs exactly one of http, log and port',
  )

const processBase = {
  working_dir: absolutePath.optional(),
  env: environment.default({}),
  user: z
    .string()
    .regex(/^[a-z_][a-z0-9_-]*$/, 'is not the name of a user')
    .optional(),
  stop: Stop.prefault({}),
  retries: z.number().int().min(0).max(100).default(3),
  depends_on: list(name),
}
const command = z.array(z.string()).min(1, 'needs at least the program')

const ComfyUIProcess = z.strictObject({
  kind: z.literal('comfyui'),
  ...processBase,
  working_dir: absolutePath,
  port: port.default(8188),
  args: list(z.string()),
  workflows: list(absolutePath),
  restart: restart.default('always'),
  ready: Ready.optional(),
})

const CosmosProcess = z.strictObject({
  kind: z.literal('cosmos'),
  ...processBase,
  working_dir: absolutePath,
  command,
  restart: restart.default('never'),
  guardrails: flag(false),
  variants: z
    .strictObject({
      command,
      count: z.number().int().positive(),
      fallback: z.string().default('none'),
    })
    .optional(),
  expect_outputs: z.strictObject({ path, glob: z.string(), count: z.number().int().positive() }).optional(),
  stall_after: duration.optional(),
})

const CommandProcess = z.strictObject({
  kind: z.literal('command'),
  ...processBase,
  command,
  restart: restart.default('never'),
  ready: Ready.optional(),
  expect_outputs: z.strictObject({ path, glob: z.string(), count: z.number().int().positive() }).optional(),
  stall_after: duration.optional(),
})

export const ProcessSpec = z.discriminatedUnion('kind', [ComfyUIProcess, CosmosProcess, CommandProcess])
export type ProcessSpec = z.infer<typeof ProcessSpec>

/** An rclone backend and its options, all of them text once read: `{type: b2, account: …}`. */
const Remote = z
  .record(
    z.string().regex(/^[a-z0-9_]+$/, 'is not the name of an rclone option'),
    z.union([z.string(), z.number(), z.boolean()]).transform(String),
  )
  .refine((remote) => /^[a-z0-9]+$/.test(remote['type'] ?? ''), 'needs a type: the name of an rclone backend')
export type Remote = z.infer<typeof Remote>

export const SyncSpec = z.strictObject({
  name,
  path: absolutePath,
  include: list(z.string()),
  exclude: list(z.string()),
  to: z.string().regex(/^(\/|\$\{|[A-Za-z0-9_-]+:)/, 'must be REMOTE:path or an absolute local path'),
  every: duration.default(120_000),
  settle: duration.default(10_000),
  complete_marker: z.string().optional(),
  keep_local: z.number().int().positive().optional(),
  versions: flag(true),
})
export type SyncSpec = z.infer<typeof SyncSpec>

const Budget = z.strictObject({
  max_cost_usd: z.number().optional(),
  max_hours: z.number().optional(),
  rate_usd_per_hour: z.number().positive().optional(),
  idle_after: duration.optional(),
  on_limit: z.enum(['stop', 'notify']).default('stop'),
  stop: z.strictObject({ command, check: command.optional() }).optional(),
})

const Secrets = z.strictObject({
  required: list(secretName),
  optional: list(secretName),
  files: list(absolutePath),
})

const Instance = z.strictObject({
  provider: z.enum(['vast', 'runpod', 'command']),
  image: z.string().optional(),
  gpu: list(z.string()),
  count: z.number().int().positive().default(1),
  disk: size.optional(),
  max_price: z.number().positive().optional(),
  interruptible: flag(false),
})

const Requires = z.strictObject({
  gpu: z
    .strictObject({
      min_vram: size.optional(),
      min_driver: z
        .string()
        .regex(/^\d+(\.\d+)*$/, 'is not a driver version')
        .optional(),
      min_compute_capability: z
        .string()
        .regex(/^\d+\.\d+$/, 'is not a compute capability')
        .optional(),
    })
    .optional(),
  disk_free: size.optional(),
  access: list(source),
})

export const Manifest = z.strictObject({
  version: z.literal(1, 'must be 1'),
  name,
  secrets: Secrets.prefault({}),
  instance: Instance.optional(),
  requires: Requires.prefault({}),
  models_root: absolutePath.optional(),
  hf_home: absolutePath.optional(),
  downloads: list(z.union([FileDownload, SnapshotDownload])),
  python: Python.optional(),
  custom_nodes: list(CustomNode),
  processes: z.record(name, ProcessSpec).default({}),
  remotes: z.record(name, Remote).default({}),
  sync: list(SyncSpec),
  budget: Budget.optional(),
  notify: z.strictObject({ webhook: z.string() }).optional(),
})
/** A manifest that was parsed and checked; see docs/manifest.md. */
export type Manifest = z.infer<typeof Manifest>
