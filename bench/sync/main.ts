/*
 * What sync and pull cost beside the bare tools, as ratios on this machine: `node bench/sync/main.ts [GB]`.
 * Everything is loopback and page cache, so the work of hashing and proving shows in full.
 */
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { randomBytes } from 'node:crypto'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { makeHome, removeHome, startAgent } from '../../tests/support/agent-process.ts'
import { findRclone, serveS3 } from '../../tests/support/rclone.ts'

const GB = Number(process.argv[2] ?? '2')
const FILES = 10_000
const WATCHED = 100_000
const KEY = { key: 'bench-key', secret: 'bench-secret' }

const folder = mkdtempSync(join(tmpdir(), 'gpu-agent-bench-'))

const timed = async (work: () => unknown): Promise<number> => {
  const startedMs = performance.now()
  await work()
  return (performance.now() - startedMs) / 1000
}
const print = (what: string, ours: number, bare: number, tool: string): void =>
  console.log(
    `${what}: ${ours.toFixed(1)} s, ${tool} ${bare.toFixed(1)} s, ratio ${(ours / bare).toFixed(2)}`,
  )

const writeLarge = (path: string): void => {
  mkdirSync(dirname(path), { recursive: true })
  const block = randomBytes(2 ** 24)
  const file = openSync(path, 'w')
  for (let written = 0; written < GB * 1e9; written += block.length) {
    block.writeUInt32LE(written / block.length)
    writeSync(file, block)
  }
  closeSync(file)
}
const writeMany = (root: string, count: number): void => {
  for (let number = 0; number < count; number += 1) {
    const path = join(root, `set-${number % 100}`, `${number}.txt`)
    if (number < 100) mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, `file ${number}`)
  }
}

/** A manifest with one sync, applied; `agentctl sync --now` is what is timed. */
const withAgent = async (
  sync: string,
  work: (agent: Awaited<ReturnType<typeof startAgent>>) => Promise<void>,
): Promise<void> => {
  const home = makeHome()
  const rclone = findRclone()
  const path = `${rclone.path === undefined ? '' : `${rclone.folder}:`}${process.env['PATH'] ?? ''}`
  const agent = await startAgent({ home, env: { PATH: path, BENCH_SECRET: KEY.secret } })
  try {
    writeFileSync(join(home, 'bench.yaml'), `version: 1\nname: bench\n${sync}`)
    const applied = await agent.agentctl(['apply', join(home, 'bench.yaml')])
    if (applied.code !== 0) throw new Error(applied.stderr + applied.stdout)
    await work(agent)
  } finally {
    await agent.kill('SIGTERM')
    await removeHome(home)
  }
}

const copyAgainstRclone = async (what: string, source: string): Promise<void> => {
  const rclone = findRclone()
  if (rclone.path === undefined) {
    console.log(`${what}: skipped, ${rclone.reason}`)
    return
  }
  const remote = mkdtempSync(join(folder, 'remote-'))
  for (const bucket of ['ours', 'bare']) mkdirSync(join(remote, bucket))
  const server = await serveS3(rclone.path, { folder: remote, ...KEY, isAlone: true })
  const env = {
    RCLONE_CONFIG: '',
    HOME: folder,
    RCLONE_CONFIG_S_TYPE: 's3',
    RCLONE_CONFIG_S_PROVIDER: 'Rclone',
    RCLONE_CONFIG_S_ENDPOINT: server.url,
    RCLONE_CONFIG_S_ACCESS_KEY_ID: KEY.key,
    RCLONE_CONFIG_S_SECRET_ACCESS_KEY: KEY.secret,
  }
  try {
    const bare = await timed(() =>
      execFileSync(rclone.path, ['copy', source, 's:bare/run'], { env, stdio: 'ignore' }),
    )
    const sync = `remotes:
  s: {type: s3, provider: Rclone, endpoint: "${server.url}", access_key_id: ${KEY.key}, secret_access_key: "\${BENCH_SECRET}"}
secrets: {required: [BENCH_SECRET]}
sync:
  - {name: s, path: ${source}, to: "s:ours/run", every: 4h, settle: 1s}
`
    await withAgent(sync, async (agent) => {
      const ours = await timed(async () => {
        const { code, stdout, stderr } = await agent.agentctl(['sync', '--now'])
        if (code !== 0) throw new Error(stdout + stderr)
      })
      print(what, ours, bare, 'bare rclone')
    })
  } finally {
    await server.close()
  }
}

const large = join(folder, 'large')
writeLarge(join(large, 'checkpoint-1', 'model.bin'))

await withAgent(
  `sync:\n  - {name: s, path: ${large}, to: ${join(folder, 'local')}, every: 4h, settle: 1s}\n`,
  async (agent) => {
    await agent.agentctl(['sync', '--now'])
    const bare = await timed(() =>
      execFileSync('cp', ['-r', join(large, 'checkpoint-1'), join(folder, 'by-cp')]),
    )
    const ours = await timed(async () => {
      const { code, stderr } = await agent.agentctl(['pull-checkpoint', '--to', join(folder, 'pulled')])
      if (code !== 0) throw new Error(stderr)
    })
    print(`pull of ${GB} GB over the socket`, ours, bare, 'cp')
  },
)
for (const name of ['by-cp', 'pulled', 'local']) rmSync(join(folder, name), { recursive: true, force: true })
await copyAgainstRclone(`copy of ${GB} GB`, large)
rmSync(large, { recursive: true })

const many = join(folder, 'many')
writeMany(join(many, 'set'), FILES)
await copyAgainstRclone(`copy of ${FILES} files`, many)

const watched = join(folder, 'watched')
writeMany(watched, WATCHED)
const rss = (pid: number | undefined): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1000
await withAgent('', async (agent) => {
  const before = rss(agent.child.pid)
  const home = agent.home
  const manifest = join(home, 'watched.yaml')
  writeFileSync(
    manifest,
    `version: 1\nname: watched\nsync:\n  - {name: s, path: ${watched}, to: ${join(folder, 'never')}, every: 4h, settle: 4h}\n`,
  )
  await agent.agentctl(['apply', manifest])
  await delay(30_000)
  console.log(
    `memory with ${WATCHED} watched files: ${rss(agent.child.pid).toFixed(0)} MB, ${before.toFixed(0)} MB before`,
  )
})
rmSync(folder, { recursive: true, force: true })
