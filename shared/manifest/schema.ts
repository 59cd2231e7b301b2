import { z } from 'zod'
import { ProcessSpec } from './process-schema.ts'
import {
  absolutePath,
  command,
  count,
  duration,
  filePath,
  flag,
  gitRef,
  gitUrl,
  list,
  name,
  scalarText,
  secretName,
  sha256,
  size,
  source,
} from './values.ts'

export { ProcessSpec } from './process-schema.ts'

/*
 * The manifest, version 1: what a box should be. Keys are the user's words, so they stay as they are written
 * (snake_case) in the parsed type too; only sizes become bytes and durations milliseconds.
 * schema-problems.ts turns what is wrong into the user's words; the descriptions are what editors show.
 */

const allowPickle = flag(false).describe(
  '.ckpt, .pt and .bin can run code when they are loaded; refused without this.',
)
const optionalDownload = flag(false).describe('true: its failure leaves the run degraded, not failed.')
const pattern = z.string().min(1, 'is empty; write a pattern like *.safetensors')

export const FileDownload = z.strictObject({
  to: filePath.describe('Where the file goes: relative to models_root, or absolute.'),
  from: z
    .array(source)
    .min(1, 'is empty; write at least one source')
    .describe(
      'hf://owner/repo@revision/path, civitai://versions/ID or https://…; the first is primary, the rest are mirrors.',
    ),
  sha256: sha256.optional().describe('64 hexadecimal digits; taken from the hub where the hub publishes it.'),
  size: z
    .int('is not a number of bytes; write a whole number')
    .nonnegative('is not a number of bytes; write a whole number')
    .optional()
    .describe('Bytes.'),
  optional: optionalDownload,
  allow_pickle: allowPickle,
  race: flag(false).describe('true: takes ranges from several sources proven equal at once.'),
})
export type FileDownload = z.infer<typeof FileDownload>

export const SnapshotDownload = z.strictObject({
  snapshot: z
    .string()
    .regex(/^hf:\/\/[^\s@/]+(\/[^\s@/]+)+(@[^\s@]+)?$/, 'is not a repository; write hf://owner/repo@revision')
    .describe('hf://owner/repo@revision: a whole repository, in Hugging Face’s cache layout.'),
  include: list(pattern).describe('Only files that match one of these patterns.'),
  exclude: list(pattern).describe('Not the files that match one of these.'),
  optional: optionalDownload,
  allow_pickle: allowPickle,
})
export type SnapshotDownload = z.infer<typeof SnapshotDownload>

const noDeps = flag(false).describe('Installs it without its dependencies.')
const PipInstall = z.strictObject({
  spec: z
    .string()
    .min(1, 'is empty; write a requirement like natsort==8.4.0')
    .refine((spec) => !spec.startsWith('-'), 'is an option of pip; write a requirement like natsort==8.4.0')
    .describe('A requirement: natsort==8.4.0.'),
  no_deps: noDeps,
})
const GitInstall = z.strictObject({
  git: gitUrl.describe('The https address of a repository.'),
  ref: gitRef.describe('A commit of 40 digits; a branch or a tag is resolved once and reported.'),
  no_deps: noDeps,
  no_build_isolation: flag(false).describe(
    'Builds with what is installed, not in an environment of its own.',
  ),
})

export const Python = z.strictObject({
  interpreter: absolutePath.describe('The image’s own Python; it is never changed.'),
  protect: list(z.string().min(1, 'is empty; write the name of a package')).describe(
    'Packages that no install may change, beyond those the agent finds itself.',
  ),
  requirements: list(absolutePath).describe('Requirements files; * and ** are patterns.'),
  install: list(z.union([PipInstall, GitInstall])).describe('Packages, installed in this order.'),
  imports: list(
    z.string().regex(/^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$/, 'is not the name of a Python module'),
  ).describe('Modules that must import at the end, or the install is rolled back.'),
})
export type Python = z.infer<typeof Python>

export const CustomNode = z.strictObject({
  git: gitUrl.describe('The https address of the custom node.'),
  ref: gitRef.describe('A commit of 40 digits; a branch or a tag is resolved once and reported.'),
  optional: flag(false).describe('true: its failure leaves the run degraded, not failed.'),
})
export type CustomNode = z.infer<typeof CustomNode>

const Remote = z
  .record(z.string().regex(/^[a-z0-9_]+$/, 'is not the name of an rclone option'), scalarText)
  .refine(
    (remote) => /^[a-z0-9]+$/.test(remote['type'] ?? ''),
    'needs a type; write type: and the name of an rclone backend',
  )
/** An rclone backend and its options, all of them text once read: `{type: b2, account: …}`. */
export type Remote = z.infer<typeof Remote>

export const SyncSpec = z.strictObject({
  name: name.describe('Its own name.'),
  path: absolutePath.describe('The folder on the box that is copied.'),
  include: list(pattern).describe('Only files that match one of these patterns.'),
  exclude: list(pattern).describe('Not the files that match one of these.'),
  to: z
    .string()
    .regex(/^(\/|\$\{|[A-Za-z0-9_-]+:)/, 'is not a place to copy to; write REMOTE:path or an absolute path')
    .superRefine((value, context) => {
      if (value.split(/[/:]/).includes('..'))
        context.addIssue({
          code: 'custom',
          message: 'leaves its folder with “..”; write the path without “..”',
          params: { code: 'unsafe_path' },
        })
    })
    .describe('REMOTE:path with a name from remotes, or an absolute path.'),
  every: duration
    .refine((ms) => ms >= 100, 'is too short; write 10s or 2m')
    .prefault('2m')
    .describe('A full comparison; the watcher copies sooner.'),
  settle: duration.prefault('10s').describe('A file that did not change for this long is complete.'),
  complete_marker: filePath
    .refine((value) => !value.startsWith('/'), 'is absolute; write it as it lies in the unit')
    .optional()
    .describe('A unit is complete when this file is in it.'),
  keep_local: count
    .optional()
    .describe('Keeps this many units; older ones go once their copies are verified.'),
  versions: flag(true).describe('Keeps what a changed file replaced on the remote.'),
})
export type SyncSpec = z.infer<typeof SyncSpec>

const Budget = z.strictObject({
  max_cost_usd: z.number().optional().describe('US dollars; 0 or less: no limit.'),
  max_hours: z.number().optional().describe('Hours; 0 or less: no limit.'),
  rate_usd_per_hour: z
    .number()
    .positive('is not a price; write US dollars an hour')
    .optional()
    .describe('The price of the box; asked of the provider where it can be.'),
  idle_after: duration.optional().describe('Idle for this long counts as a limit.'),
  on_limit: z
    .enum(['stop', 'notify'])
    .default('stop')
    .describe('stop: interrupts whatever runs, after a final sync. notify: says so, and no more.'),
  stop: z
    .strictObject({
      command: command.describe('Stops the box.'),
      check: command.optional().describe('Ends with 0 once the box is stopping.'),
    })
    .optional()
    .describe('Only where no provider is known.'),
})

const Secrets = z.strictObject({
  required: list(secretName).describe('Names; the plan has an error while one is missing.'),
  optional: list(secretName).describe('Names.'),
  files: list(absolutePath).describe('Where secrets may lie by design (mode 0600).'),
})

const Instance = z.strictObject({
  provider: z.enum(['vast', 'runpod', 'command']).describe('Who rents it.'),
  image: z
    .string()
    .min(1, 'is empty; write the name of an image')
    .optional()
    .describe('The container image.'),
  gpu: list(z.string()).describe('Acceptable GPUs, as the provider names them.'),
  count: count.default(1).describe('GPUs on the box.'),
  disk: size.optional().describe('Size of the disk.'),
  max_price: z
    .number()
    .positive('is not a price; write US dollars an hour')
    .optional()
    .describe('US dollars an hour, everything included.'),
  interruptible: flag(false).describe('true: cheaper, and may be taken away.'),
})

const Requires = z.strictObject({
  gpu: z
    .strictObject({
      min_vram: size.optional().describe('Memory of the GPU.'),
      min_driver: z
        .string()
        .regex(/^\d+(\.\d+)*$/, 'is not a driver version; write it like "570.124"')
        .optional()
        .describe('Driver version, in quotes.'),
      min_compute_capability: z
        .string()
        .regex(/^\d+\.\d+$/, 'is not a compute capability; write it like "8.9"')
        .optional()
        .describe('Compute capability, in quotes.'),
    })
    .optional()
    .describe('What the GPU must have.'),
  disk_free: size.optional().describe('Free space beside what the downloads themselves need.'),
  access: list(source).describe('Gated files that a program fetches later by itself: checked, not fetched.'),
})

export const Manifest = z.strictObject({
  version: z
    .literal(1, 'is not a version that is known; write version: 1')
    .describe('The version of this format.'),
  name: name.describe('The name of the manifest.'),
  secrets: Secrets.prefault({}).describe('Secrets by name; a value in the manifest is an error.'),
  instance: Instance.optional().describe('What agentctl up rents; ignored on the box.'),
  requires: Requires.prefault({}).describe('Checked before anything is downloaded or paid for.'),
  models_root: absolutePath.optional().describe('The folder that relative destinations lie in.'),
  hf_home: absolutePath.optional().describe('Where snapshots go and processes look (HF_HOME).'),
  downloads: list(z.union([FileDownload, SnapshotDownload])).describe('Files and whole repositories.'),
  python: Python.optional().describe('The guarded Python environment.'),
  custom_nodes: list(CustomNode).describe('Custom nodes of ComfyUI.'),
  processes: z.record(name, ProcessSpec).default({}).describe('What runs, by name.'),
  remotes: z
    .record(name, Remote)
    .default({})
    .describe('rclone remotes by name: a type and its options; secrets as ${NAME}.'),
  sync: list(SyncSpec).describe('Folders that are copied to a remote while they grow.'),
  budget: Budget.optional().describe('Limits on money and time.'),
  notify: z
    .strictObject({
      webhook: z
        .string()
        .regex(/^(https?:\/\/|\$\{)/, 'is not an address; write "${NAME}" or https://…')
        .describe('An address that gets a message; best as ${NAME}.'),
    })
    .optional()
    .describe('Who is told.'),
})
/** A manifest that was parsed and checked; see docs/manifest.md. */
export type Manifest = z.infer<typeof Manifest>
