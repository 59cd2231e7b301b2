import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import { findRclone } from '../support/rclone.ts'
import type { RentedBox } from '../support/rented-box.ts'
import { noRentedBox, startRentedBox } from '../support/rented-box.ts'

const rclone = findRclone()
const missing = noRentedBox ?? (rclone.path === undefined ? rclone.reason : undefined)

/** A whole safetensors file: its header's length, the header, nothing more. */
const safetensors = (name: string): Buffer => {
  const header = Buffer.from(JSON.stringify({ __metadata__: { name } }))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.byteLength))
  return Buffer.concat([length, header])
}

type Boxes = { boxes: { id: string; state: string; agent: string | null; warning: string | null }[] }

/** One box through its whole life; each test begins where the one before ended. */
describe.skipIf(missing !== undefined)(
  `agentctl down and boxes (${missing ?? 'a real sshd as the box'})`,
  () => {
    let box: RentedBox
    let work: string
    beforeAll(async () => {
      box = await startRentedBox({ path: rclone.path === undefined ? '' : rclone.folder })
      work = join(box.server.folder, 'work')
      for (const name of ['checkpoints', 'remote']) mkdirSync(join(work, name), { recursive: true })
      const manifest = box.manifest(`version: 1
name: train
instance: {provider: vast, image: example/train}
sync:
  - {name: checkpoints, path: ${work}/checkpoints, to: ${work}/remote, settle: 1s, every: 1h}
`)
      const { code, stderr } = await box.agentctl(['up', manifest, '--yes', '--name', 'train'])
      expect(code, stderr).toBe(EXIT.done)
    }, 60_000)
    afterAll(() => box.close())
    const boxes = async (): Promise<Boxes['boxes']> =>
      (JSON.parse((await box.agentctl(['boxes', '--json'])).stdout) as Boxes).boxes

    test('boxes lists what is rented, at what cost, with its agent', async () => {
      const [row, ...others] = await boxes()
      expect(others).toEqual([])
      expect(row).toMatchObject({
        id: '1000001',
        provider: 'vast',
        gpu: 'RTX 4090',
        usdPerHour: 0.4,
        state: 'running',
        context: 'train',
        warning: null,
      })
      expect(row?.agent).toMatch(/./)
      const { stdout } = await box.agentctl(['boxes'])
      expect(stdout).toContain('$0.40 an hour altogether')
    })

    test('a checkpoint that is not whole cannot be stored: down refuses, and the box runs on', async () => {
      writeFileSync(join(work, 'checkpoints', 'step-1.safetensors'), 'torn')
      const { code, stderr } = await box.agentctl(['down', '--sync-timeout', '8s'])
      expect(stderr).toMatch(/error: nothing was stopped, since data would be lost: 1 checkpoint \(4 B\)/)
      expect(stderr).toContain('step-1.safetensors')
      expect(stderr).toContain('--lose-data')
      expect(code).toBe(EXIT.refused)
      expect(box.fake.ledger.burning()).toEqual(['1000001'])
    }, 60_000)

    test('what can be stored is stored, then the machine is stopped, read back', async () => {
      writeFileSync(join(work, 'checkpoints', 'step-1.safetensors'), safetensors('weights'))
      const { code, stdout, stderr } = await box.agentctl(['down'])
      expect(code, stderr).toBe(EXIT.done)
      expect(stdout).toContain('stopped vast 1000001: read back')
      expect(stderr).toContain('its disk is kept and goes on costing')
      expect(box.fake.ledger.burning()).toEqual([])
      expect(box.fake.ledger.existing()).toEqual(['1000001'])
      expect(readFileSync(join(work, 'remote', 'step-1.safetensors'))).toEqual(safetensors('weights'))
      expect(await boxes()).toMatchObject([{ state: 'stopped', agent: null, warning: null }])
    }, 60_000)

    test('what was stopped after a verified sync is destroyed without a question, and forgotten', async () => {
      const { code, stderr } = await box.agentctl(['down', '--destroy'])
      expect(code, stderr).toBe(EXIT.done)
      expect(box.fake.ledger.existing()).toEqual([])
      expect(await boxes()).toEqual([])
      expect((await box.agentctl(['context', 'ls'])).stdout).not.toContain('train')
    })
  },
)
