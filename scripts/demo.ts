/*
 * The whole main job on loopback: an agent in a temporary home, a small faulty hub, examples/demo.yaml brought to
 * `ready`, the newest checkpoint pulled and checked. Needs no network, GPU or root, and leaves nothing behind.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeHome, removeHome, startAgent } from '../tests/support/agent-process.ts'
import type { AgentProcess } from '../tests/support/agent-process.ts'
import { buildPrograms } from '../tests/support/build-programs.ts'
import { startDemoWorld } from '../tests/support/demo-world.ts'
import { sha256OfFile } from '../tests/support/sha256-of-file.ts'

const say = (text: string): void => console.log(`\n\x1b[1m# ${text}\x1b[0m`)

/** Runs agentctl, shows what it prints, and stops the demo when it fails. */
const agentctl = async (agent: AgentProcess, ...args: string[]): Promise<string> => {
  console.log(`$ agentctl ${args.join(' ')}`)
  const { code, stdout, stderr } = await agent.agentctl(args)
  process.stdout.write(stderr)
  process.stdout.write(stdout)
  if (code !== 0) throw new Error(`agentctl ${args.join(' ')} ended with ${code}\n${agent.log()}`)
  return stdout
}

const check = (what: string, actual: unknown, wanted: unknown): void => {
  if (actual !== wanted) throw new Error(`${what}: ${String(actual)}, where ${String(wanted)} was wanted`)
  console.log(`✓ ${what}`)
}

buildPrograms()
const home = makeHome()
const world = await startDemoWorld(home)
let agent: AgentProcess | undefined
try {
  if (!world.hasPython)
    say(
      'no python3 here has pip and venv: the Python part of the demo is left out (install python3-pip, python3-venv)',
    )
  say('an agent in a home of its own')
  agent = await startAgent({ home, env: world.environment })
  await agentctl(agent, 'version')

  say('what apply would do, and every problem at once')
  await agentctl(agent, 'plan', world.manifestPath)

  say('bring the box to the manifest')
  await agentctl(agent, 'apply', world.manifestPath)
  for (const [path, hash] of Object.entries(world.hashes))
    check(path, await sha256OfFile(join(home, path)), hash)

  say('the checkpoint that the process wrote: copied to the remote, and pulled to this machine')
  await agentctl(agent, 'sync', 'checkpoints', '--now')
  await agentctl(agent, 'status')
  const pulled = join(home, 'pulled')
  await agentctl(agent, 'pull-checkpoint', 'latest', '--to', pulled)
  const written = readFileSync(join(home, 'work/checkpoints/step-100/model.safetensors'))
  const hash = createHash('sha256').update(written).digest('hex')
  check('the pulled checkpoint', await sha256OfFile(join(pulled, 'step-100/model.safetensors')), hash)
  check('the copy on the remote', await sha256OfFile(join(home, 'remote/step-100/model.safetensors')), hash)

  say('applying again: everything is proven done, nothing is fetched twice')
  const before = world.hub.sentBytes('cdn')
  await agentctl(agent, 'apply', world.manifestPath)
  check('bytes fetched by the second apply', world.hub.sentBytes('cdn') - before, 0)
  await agentctl(agent, 'stop', 'trainer')
  say('done')
} catch (error) {
  console.error(`\nthe demo failed: ${error instanceof Error ? error.message : String(error)}`)
  process.exitCode = 1
} finally {
  await agent?.kill('SIGTERM')
  await world.close()
  await removeHome(home)
}
