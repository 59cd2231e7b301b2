import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { planSnapshot } from '../../../shared/sources/plan-snapshot.ts'
import { COMMIT } from '../../support/hub/hub-model.ts'
import { realPackages } from '../../support/wheels/real-wheels.ts'
import { startBench } from './bench.ts'

const client = realPackages('huggingface_hub==1.1.7')
const { python, folder: packages } = client.missing === undefined ? client : { python: '', folder: '' }
const skipped = client.missing === undefined ? '' : ` (skipped: ${client.missing})`
const repo = 'owner/repo'

/** What `from_pretrained` and `hf` do first: they look for the files in the cache, by branch and by commit. */
const SCRIPT = `
import json, sys
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
repo, commit = sys.argv[1:]
folder = snapshot_download(repo, allow_patterns=["general/*", "*.json"], local_files_only=True)
by_commit = snapshot_download(repo, revision=commit, local_files_only=True)
file = hf_hub_download(repo, "general/a.safetensors", local_files_only=True)
cache = scan_cache_dir()
print(json.dumps({
  "folder": folder, "by_commit": by_commit, "file": file, "size": len(open(file, "rb").read()),
  "warnings": [str(one) for one in cache.warnings],
  "repos": [[one.repo_id, one.nb_files, [sorted(revision.refs) for revision in one.revisions]] for one in cache.repos],
}))
`

test.skipIf(client.missing !== undefined)(
  `Hugging Face’s own client finds a snapshot offline, by branch and by commit${skipped}`,
  async () => {
    await using bench = await startBench({
      files: [
        { repo, path: 'general/a.safetensors', sizeBytes: 3_000_000 },
        { repo, path: 'config.json', text: '{"a":1}', small: true },
      ],
    })
    const hfHome = join(bench.folder, 'hf')
    const signal = new AbortController().signal
    const request = { snapshot: `hf://${repo}@main`, include: ['general/**', '*.json'], exclude: [] }
    const snapshot = await planSnapshot(request, { ...bench.resolve, signal })
    const planned = { snapshot, hfHome, optional: false, allowPickle: false }
    expect(await bench.downloads.fetchSnapshots([planned], { signal })).toMatchObject([{ state: 'done' }])

    const env = {
      PATH: process.env['PATH'],
      HOME: bench.folder,
      PYTHONPATH: packages,
      HF_HOME: hfHome,
      HF_HUB_OFFLINE: '1',
    }
    const { stdout } = await promisify(execFile)(python, ['-c', SCRIPT, repo, COMMIT], { env })
    const folder = join(hfHome, 'hub', 'models--owner--repo', 'snapshots', COMMIT)
    expect(JSON.parse(stdout)).toEqual({
      folder,
      by_commit: folder,
      file: join(folder, 'general/a.safetensors'),
      size: 3_000_000,
      warnings: [],
      repos: [[repo, 2, [['main']]]],
    })
  },
)
