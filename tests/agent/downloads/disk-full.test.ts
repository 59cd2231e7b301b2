import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'
const path = 'a.safetensors'

const canMount = (() => {
  const probe = '/tmp/can-mount-probe'
  try {
    mkdirSync(probe, { recursive: true })
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', probe], { stdio: 'ignore' })
    execFileSync('umount', [probe], { stdio: 'ignore' })
    return true
  } catch {
    return false
  } finally {
    rmSync(probe, { recursive: true, force: true })
  }
})()
const why = canMount ? '' : ' (skipped: this user may not mount a tmpfs)'

test.skipIf(!canMount)(
  `case 78: a disk that runs full is waited for, and the transfer goes on by itself${why}`,
  async () => {
    await using bench = await startBench({ files: [{ repo, path, sizeBytes: 24 * MB }] })
    const disk = join(bench.folder, 'small-disk')
    mkdirSync(disk)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', disk])
    try {
      writeFileSync(join(disk, 'ballast'), Buffer.alloc(16 * MB))
      const file = bench.planned(path, { path: join(disk, path), root: disk })
      const running = bench.fetch(file)
      while (bench.downloads.rows()[0]?.state !== 'waiting') await delay(50)
      expect(bench.downloads.rows()[0]?.problem).toMatchObject({ code: 'disk_full', severity: 'warning' })
      const asked = bench.hub.requests.length
      await delay(4_000)
      expect(bench.hub.requests.length, 'no storm of requests while there is no room').toBe(asked)
      rmSync(join(disk, 'ballast'))
      expect(await running).toMatchObject({ state: 'done', problem: null })
      expect(bench.eventsOf('download.waiting')).toHaveLength(1)
      expect(await bench.downloads.proven(file)).toBeDefined()
    } finally {
      execFileSync('umount', [disk])
    }
  },
)
