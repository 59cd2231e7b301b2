import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openDatabase } from '../../../agent/platform/database.ts'
import type { PythonContext } from '../../../agent/python/context.ts'
import type { PythonPlan } from '../../../agent/python/plan-python.ts'
import { recoverPython } from '../../../agent/python/recover-python.ts'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import { takeBackInstall } from '../../../agent/python/take-back.ts'
import { makeWheel } from '../../support/wheels/make-wheel.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()

describe.skipIf(missing !== undefined)(
  `an agent that is killed in an install (${missing ?? 'with python3'})`,
  () => {
    let world: PythonWorld
    let env: string
    let before: string
    beforeAll(async () => {
      world = makePythonWorld([])
      mkdirSync(join(world.folder, 'state-of-the-dying'))
      // Many small files: pip is busy with them for a while.
      const wheelOf = (name: string, count: number) => {
        const files = Object.fromEntries(
          Array.from({ length: count }, (_, index) => [`${name}/m${index}.py`, `value = ${index}\n`]),
        )
        makeWheel({ name, version: '1.0', files: { ...files, [`${name}/__init__.py`]: '' } }, world.index)
      }
      wheelOf('bulky', 1500)
      wheelOf('handy', 100)
      const plan = await world.plan({ install: [{ spec: 'einops==0.7.0' }] })
      await preparePython(plan, world.context)
      env = join(plan.root, 'env')
      before = world.digest(env)
      // It cannot be taken back: what is kept from here on comes from the agents that die.
      for (const name of readdirSync(plan.root))
        if (name.startsWith('kept-')) rmSync(join(plan.root, name), { recursive: true })
      for (const name of ['bulky', 'handy']) {
        const install = [{ spec: 'einops>=0.8' }, { spec: name }]
        const next = await world.plan({ install, imports: [name, 'einops'] })
        writeFileSync(join(world.folder, `${name}.json`), JSON.stringify(next))
      }
    })
    afterAll(() => world.close())

    const installAndDie = (name: string, point: string): Promise<{ signal: string | null; said: string }> =>
      new Promise((resolve) => {
        const child = spawn(
          process.execPath,
          [join(import.meta.dirname, 'install-then-die.ts'), world.folder, join(env, '..'), name, point],
          { stdio: ['ignore', 'pipe', 'inherit'], env: { PATH: process.env['PATH'] } },
        )
        let said = ''
        child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()))
        child.once('close', (_, signal) => resolve({ signal, said }))
      })

    /** Command lines of everything that still runs in this world. */
    const running = (): string[] =>
      readdirSync('/proc').flatMap((pid) => {
        try {
          const line = readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
          return /^\d+$/.test(pid) && line.includes(`${world.folder}/`) ? [line] : []
        } catch {
          return []
        }
      })

    /** Does something as the agent that comes after the one that died. */
    const asNextAgent = async (work: (context: PythonContext) => Promise<unknown>): Promise<void> => {
      const { db } = openDatabase(join(world.folder, 'state-of-the-dying'))
      await work({ ...world.context, db }).finally(() => db.close())
    }

    const expectNoTrace = async (base: string) => {
      // What only looks at the Python ends by itself.
      await expect.poll(running, { timeout: 60_000 }).toEqual([])
      expect(world.digest(env)).toBe(before)
      expect(world.digest()).toBe(base)
      const left = readdirSync(join(env, '..')).filter((name) => !name.startsWith('kept-'))
      expect(left).toEqual(['env', 'protected.txt'])
      expect(readdirSync(join(world.folder, 'state/python'))).toHaveLength(1)
    }

    test.each([
      ['the wheels are fetched'],
      ['the snapshot is made'],
      ['the journal is written'],
      ['the old version is being removed'],
      ['the new files are half there'],
      ['pip is nearly done'],
      ['the imports are proven'],
    ])('while %s is followed by one that puts everything back (case 26)', async (point) => {
      const base = world.digest()
      expect(await installAndDie('bulky', point)).toEqual({ signal: 'SIGKILL', said: '' })
      await asNextAgent(recoverPython)
      await expectNoTrace(base)
    })

    // With the seven above they are 30.
    test('at any of 23 random moments leaves no half state (case 26)', { timeout: 600_000 }, async () => {
      const base = world.digest()
      const startedMs = performance.now()
      expect((await installAndDie('handy', '600000')).said).toBe('installed\n')
      const wholeMs = performance.now() - startedMs
      const { base: facts } = JSON.parse(readFileSync(join(world.folder, 'handy.json'), 'utf8')) as PythonPlan
      const takeBack = () => asNextAgent((context) => takeBackInstall(facts, { ...context, id: null }))
      await takeBack()
      let inTheMiddle = 0
      for (let round = 0; round < 23; round += 1) {
        const { said } = await installAndDie('handy', String(Math.ceil(Math.random() * wholeMs)))
        if (existsSync(join(env, '../journal.json'))) inTheMiddle += 1
        await asNextAgent(recoverPython)
        // From the moment that its journal is gone the install stands, and can be taken back.
        const stands = readdirSync(join(env, '..')).some((name) => name.startsWith('kept-'))
        if (stands) await takeBack()
        else expect(said).toBe('')
        await expectNoTrace(base)
      }
      expect(inTheMiddle).toBeGreaterThan(0)
    })

    test('leaves an environment in which the same install then works', async () => {
      const plan = await world.plan({
        install: [{ spec: 'einops>=0.8' }, { spec: 'bulky' }],
        imports: ['bulky'],
      })
      await preparePython(plan, world.context)
      expect((await world.plan({ install: [{ spec: 'einops>=0.8' }, { spec: 'bulky' }] })).changes).toEqual(
        [],
      )
    })

    test.each([
      ['nothing was renamed yet', ['env', 'snapshot']],
      ['the broken one was moved away', ['bad', 'snapshot']],
      ['both renames were done', ['bad', 'env']],
    ])('is recovered from every point of a recovery: %s', async (_, there) => {
      const root = join(world.context.folder, '0123456789ab')
      rmSync(root, { recursive: true, force: true })
      const id = 'aaaaaaaaaaaa'
      const names = { env: 'env', snapshot: `kept-${id}`, bad: `bad-${id}` }
      for (const name of there) {
        const path = join(root, names[name as keyof typeof names])
        mkdirSync(path, { recursive: true })
        // What was good is in the snapshot until that is renamed.
        const good = name === 'snapshot' || (name === 'env' && !there.includes('snapshot'))
        writeFileSync(join(path, 'content'), good ? 'good' : 'broken')
      }
      writeFileSync(join(root, 'journal.json'), JSON.stringify({ id, snapshot: join(root, names.snapshot) }))
      expect(await recoverPython(world.context)).toEqual([join(root, 'env')])
      expect(readFileSync(join(root, 'env', 'content'), 'utf8')).toBe('good')
      expect(readdirSync(root)).toEqual(['env'])
      expect(await recoverPython(world.context)).toEqual([])
      expect(world.events.at(-1)).toMatchObject({ type: 'python.rolled-back', subject: join(root, 'env') })
    })
  },
)
