import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

/*
 * What `agentctl` runs first, whatever Node the laptop has. It uses nothing that Node 18 lacks: an older Node gets the one
 * that the package brings, or is told what to do, instead of a stack trace.
 */

const OLDEST_NODE = 22

const main = async (): Promise<void> => {
  if (Number.parseInt(process.versions.node, 10) >= OLDEST_NODE) {
    await import('./main.ts')
    return
  }
  const node = findOwnNode()
  if (node === undefined) {
    process.stderr.write(
      `error: agentctl needs Node ${OLDEST_NODE} or newer, and this is ${process.versions.node}\n` +
        'try: Install a newer Node and run it again.\n',
    )
    process.exitCode = 1
    return
  }
  const child = spawn(node, process.argv.slice(1), { stdio: 'inherit' })
  // Ctrl-C reaches the child by itself, as it is in the same terminal; what is sent to this process alone is passed on.
  process.on('SIGINT', () => undefined)
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  child.once('exit', (code, signal) => {
    process.exitCode = code ?? (signal === 'SIGKILL' ? 137 : 1)
  })
}

/** The package `node` that npm installs beside this one. */
const findOwnNode = (): string | undefined => {
  try {
    const node = join(dirname(createRequire(import.meta.url).resolve('node/package.json')), 'bin/node')
    // npm leaves it out where install scripts are not allowed.
    return existsSync(node) ? node : undefined
  } catch {
    // The single file has no packages beside it.
    return undefined
  }
}

await main()
