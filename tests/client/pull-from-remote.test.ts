import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import type { Pull } from '../support/pull.ts'
import { createPull, NAME } from '../support/pull.ts'
import { findRclone } from '../support/rclone.ts'
import { holds } from '../support/checkpoint.ts'
import { runAgentctl, startAgentctl } from '../support/agentctl.ts'

const rclone = findRclone()

/** What happens when a box is gone for good in the middle of a pull, and the checkpoint lies on a remote too. */
describe.skipIf(rclone.path === undefined)(
  `a pull whose box is destroyed (${rclone.path === undefined ? rclone.reason : 'a real rclone on the laptop'})`,
  () => {
    let at: Pull
    let store: string
    let env: Record<string, string>
    beforeEach(async () => {
      at = await createPull()
      store = join(at.box.home, 'store')
      cpSync(at.made.folder, join(store, NAME), { recursive: true })
      writeRecord(at.made.files.digest)
      at.made.files.remote = `b2:${store}`
      const folder = rclone.path === undefined ? '' : rclone.folder
      // The laptop's own configuration: the box's `b2` is a folder here.
      env = {
        ...at.box.env,
        PATH: `${folder}:${process.env['PATH'] ?? ''}`,
        RCLONE_CONFIG: '',
        RCLONE_CONFIG_B2_TYPE: 'local',
      }
    })
    afterEach(() => at.box.close())

    const writeRecord = (digest: string): void => {
      mkdirSync(join(store, '.gpu-agent'), { recursive: true })
      writeFileSync(
        join(store, `.gpu-agent/${NAME}.json`),
        JSON.stringify({ version: 1, unit: NAME, digest }),
      )
    }
    const args = (name: string): string[] => ['pull-checkpoint', name, '--to', at.to]
    /** Five of eight chunks are here, and the box is no more. */
    const destroyed = async (): Promise<void> => {
      at.holdAfter(5)
      const first = startAgentctl(args('latest'), { env })
      await at.waitForChunks(5)
      first.child.kill('SIGKILL')
      await first.ended
      await at.box.stop()
    }

    test('case S53: goes on from the remote, with the same digest', async () => {
      at.holdAfter(5)
      const running = startAgentctl([...args('latest'), '--json'], { env })
      await at.waitForChunks(5)
      await at.box.stop()
      const { code, stdout, stderr } = await running.ended
      expect(stderr).toContain(`going on from b2:${store}`)
      expect(code).toBe(EXIT.done)
      expect(JSON.parse(stdout)).toMatchObject({ checkpoint: { digest: at.made.files.digest } })
      expect(holds(at.target, at.made)).toBe(true)
    }, 90_000)

    test.each(['latest', NAME])(
      'case S53: a later pull of %s brings to its end what was begun',
      async (name) => {
        await destroyed()
        const { code, stderr } = await runAgentctl(args(name), { env })
        expect(stderr).toContain(`going on from b2:${store}`)
        expect(code).toBe(EXIT.done)
        expect(holds(at.target, at.made)).toBe(true)
        expect(existsSync(`${at.target}.partial`)).toBe(false)
      },
    )

    const refusals = [
      {
        what: 'this machine’s rclone does not know the remote',
        arrange: () => delete env['RCLONE_CONFIG_B2_TYPE'],
        says: 'knows no remote b2',
      },
      {
        what: 'another version lies there',
        arrange: () => writeRecord('sha256:other'),
        says: 'is another version',
      },
      {
        what: 'there is no rclone',
        arrange: () => (env = { ...env, PATH: '/nowhere' }),
        says: 'there is no rclone on this machine',
      },
    ]
    test.each(refusals)('case S53: where $what, it is unreachable, told why, and kept', async (refusal) => {
      await destroyed()
      refusal.arrange()
      const { code, stderr } = await runAgentctl(args('latest'), { env })
      expect(code).toBe(EXIT.unreachable)
      expect(stderr).toContain(refusal.says)
      expect(
        readFileSync(join(`${at.target}.partial`, 'journal.jsonl'), 'utf8')
          .split('\n')
          .filter(Boolean),
      ).toHaveLength(5)
    })

    test.each([':sftp,ssh=touch /tmp/x:', 'b2,type=local:/etc', '-config:/x', ':local:/etc'])(
      'case S53: a box that names %j as its remote gets no rclone to run it',
      async (remote) => {
        at.made.files.remote = remote
        await destroyed()
        const { code, stderr } = await runAgentctl(args('latest'), { env })
        expect(code).toBe(EXIT.unreachable)
        expect(stderr).toContain('knows no remote')
      },
    )

    test('case S53: bytes on the remote that are not those of the checkpoint are refused', async () => {
      await destroyed()
      const wrong = readFileSync(join(store, NAME, 'model.safetensors'))
      for (let byte = 0; byte < wrong.length; byte += 1000) wrong.writeUInt8(wrong.readUInt8(byte) ^ 1, byte)
      writeFileSync(join(store, NAME, 'model.safetensors'), wrong)
      const { code, stderr } = await runAgentctl(args('latest'), { env })
      expect(code).toBe(EXIT.failed)
      expect(stderr).toContain('do not have sha256')
      expect(existsSync(at.target)).toBe(false)
    })
  },
)
