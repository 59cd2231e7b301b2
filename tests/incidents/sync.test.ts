import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { PlanRecord } from '../../shared/contract/records.ts'
import { makeHome, removeHome, startAgent } from '../support/agent-process.ts'
import { findRclone, serveWebdav } from '../support/rclone.ts'

const rclone = findRclone()
const skipped = rclone.path === undefined

const makeBox = (url: string) => {
  const home = makeHome()
  onTestFinished(() => removeHome(home))
  const manifest = join(home, 'box.yaml')
  mkdirSync(join(home, 'out'))
  writeFileSync(
    manifest,
    `version: 1
name: copies
secrets: {required: [DAV_PASSWORD]}
remotes:
  store: {type: webdav, url: "${url}", user: me, pass: "\${DAV_PASSWORD}"}
sync:
  - {name: out, path: ${home}/out, to: "store:run-1", every: 1h, settle: 50ms}
`,
  )
  return { home, manifest }
}

test.skipIf(skipped)(
  `incident B6: a remote of the manifest reaches every rclone, without a configuration file${skipped ? ` (skipped: ${rclone.reason})` : ''}`,
  async () => {
    if (skipped) return
    const password = 'a password of the store'
    const store = makeHome()
    const server = await serveWebdav(rclone.path, { folder: store, user: 'me', password })
    onTestFinished(async () => {
      await server.close()
      await removeHome(store)
    })
    // A password that the store refuses is found by the plan's own listing, before anything is made that needs a copy.
    const other = makeBox(server.url)
    const wrong = await startAgent({
      home: other.home,
      env: { PATH: `${rclone.folder}:${process.env['PATH'] ?? ''}`, DAV_PASSWORD: 'another password' },
    })
    const planned = await wrong.agentctl(['plan', other.manifest, '--json'])
    expect(planned.code).toBe(3)
    expect((JSON.parse(planned.stdout) as PlanRecord).problems).toMatchObject([
      { code: 'sync_auth', severity: 'error', subject: 'out', at: { line: 7 } },
    ])
    await wrong.kill('SIGTERM')

    const { home, manifest } = makeBox(server.url)
    const agent = await startAgent({
      home,
      env: { PATH: `${rclone.folder}:${process.env['PATH'] ?? ''}`, DAV_PASSWORD: password },
    })
    writeFileSync(join(home, 'out/model.txt'), 'weights')
    const applied = await agent.agentctl(['apply', manifest])
    expect(applied.code, applied.stderr).toBe(0)
    const synced = await agent.agentctl(['sync', '--now'])
    expect(synced.code, synced.stdout + synced.stderr).toBe(0)
    expect(readFileSync(join(store, 'run-1/model.txt'), 'utf8')).toBe('weights')
    const names = readdirSync(home, { recursive: true, encoding: 'utf8' })
    expect(names.filter((name) => name.includes('rclone'))).toEqual([])
  },
)

test('incident B9: without rclone in its path the plan is refused, and says where it was looked for', async () => {
  const { home, manifest } = makeBox('http://127.0.0.1:9')
  const agent = await startAgent({ home, env: { PATH: join(home, 'bin'), DAV_PASSWORD: 'a password' } })
  const { code, stdout } = await agent.agentctl(['plan', manifest, '--json'])
  const { problems } = JSON.parse(stdout) as PlanRecord
  expect(problems).toMatchObject([{ code: 'program_missing', severity: 'error', subject: 'out' }])
  expect(problems[0]?.message).toContain(`${home}/bin`)
  expect(code).toBe(3)
})
