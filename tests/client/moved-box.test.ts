import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { EXIT } from '../../shared/contract/errors.ts'
import type { RentedBox } from '../support/rented-box.ts'
import { noRentedBox, startRentedBox } from '../support/rented-box.ts'

describe.skipIf(noRentedBox !== undefined)(
  `a rented box that moved (${noRentedBox ?? 'a real sshd'})`,
  () => {
    let box: RentedBox
    let ports: readonly number[]
    beforeAll(async () => {
      box = await startRentedBox({ addresses: 2 })
      ports = box.ports
      const manifest = box.manifest('version: 1\nname: mover\ninstance: {provider: vast, image: x/y}\n')
      const { code, stderr } = await box.agentctl(['up', manifest, '--yes', '--name', 'mover'])
      expect(code, stderr).toBe(EXIT.done)
    }, 60_000)
    afterAll(() => box.close())

    test('is looked up at its provider, and the context follows', async () => {
      expect((await box.agentctl(['context', 'ls'])).stdout).toContain(`:${ports[0]}`)
      const [machine] = box.fake.machines.all()
      if (machine === undefined) throw new Error('no machine')
      box.fake.machines.stop(machine)
      while (box.fake.machines.find(machine.id)?.state !== 'stopped')
        await new Promise((resolve) => setTimeout(resolve, 50))

      const stopped = await box.agentctl(['status'])
      expect(stopped.stderr).toContain('error: mover is stopped at vast')
      expect(stopped.code).toBe(EXIT.unreachable)

      box.fake.machines.start(machine)
      while (box.fake.machines.find(machine.id)?.state !== 'running')
        await new Promise((resolve) => setTimeout(resolve, 50))
      // The agent of a machine that has just started takes a moment.
      for (;;) {
        const { code, stdout } = await box.agentctl(['status'])
        if (code !== EXIT.done) continue
        expect(stdout).toContain(box.home)
        break
      }
      expect((await box.agentctl(['context', 'ls'])).stdout).toContain(`:${ports[1]}`)
    }, 60_000)
  },
)
