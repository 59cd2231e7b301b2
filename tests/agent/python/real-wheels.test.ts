import { spawnSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { preparePython } from '../../../agent/python/prepare-python.ts'
import type { PythonWorld } from '../../support/wheels/python-world.ts'
import { makePythonWorld, systemPython } from '../../support/wheels/python-world.ts'

const { missing } = systemPython()
const lacking =
  missing ??
  (process.env['GPU_AGENT_REAL_WHEELS'] === '1'
    ? undefined
    : 'GPU_AGENT_REAL_WHEELS=1 is not set; it downloads 100 MB from the package index')

describe.skipIf(lacking !== undefined)(`wheels of the package index (${lacking ?? 'downloaded'})`, () => {
  let world: PythonWorld
  const context = () => ({
    ...world.context,
    environment: { ...process.env, HOME: process.env['HOME'] },
    readPipConfig: true,
  })
  const apply = async (spec: string, imports: string[]) => {
    const plan = await world.plan({ install: [{ spec, no_deps: true }], imports }, context())
    expect(plan.problems).toEqual([])
    return preparePython(plan, context())
  }
  beforeAll(() => {
    world = makePythonWorld([])
    const argv = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', 'numpy==2.2.6']
    expect(spawnSync(world.interpreter, argv, { stdio: 'inherit' }).status).toBe(0)
  })
  afterAll(() => world.close())

  test('scipy 1.11.4, compiled for numpy 1, is refused beside numpy 2 (case 25)', async () => {
    await expect(apply('scipy==1.11.4', ['scipy.linalg'])).rejects.toMatchObject({
      code: 'install_abi_conflict',
      message: expect.stringMatching(/^scipy\/.*was compiled for numpy<2, and numpy is 2\.2\.6/) as string,
    })
  })

  test('scipy 1.15.3 fits and imports: nothing is found that is not there', async () => {
    expect((await apply('scipy==1.15.3', ['scipy.linalg'])).changes).toMatchObject([{ to: '1.15.3' }])
  })
})
