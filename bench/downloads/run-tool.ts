import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs'
import { get as getPlain, type IncomingMessage } from 'node:http'
import { get as getTls } from 'node:https'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Served, ServeOptions } from './serve.ts'
import type { Tool } from './tools.ts'

export type Measured = {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly peakBytes: number
  readonly sentBytes: number
}

const TICKS_PER_SECOND = 100

/** Starts the hub as a process of its own; it gets its memory back when it ends. */
export const startServer = async (options: ServeOptions) => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'serve.ts'), JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  for await (const bytes of child.stdout) {
    text += String(bytes)
    if (text.includes('\n')) break
  }
  return { served: JSON.parse(text) as Served, stop: () => void child.kill() }
}

/** Runs a tool into a fresh folder, checks what it brought, and says what that cost. */
export const runTool = async (
  tool: Tool,
  context: { readonly served: Served; readonly parent: string; readonly killAtBytes?: number },
): Promise<Measured> => {
  const { served, killAtBytes } = context
  const folder = mkdtempSync(join(context.parent, `${tool.name}-`))
  const certificatePath = join(context.parent, 'certificate.pem')
  if (served.certificate !== null) writeFileSync(certificatePath, served.certificate)
  const before = await sentBytes(served, certificatePath)
  try {
    if (killAtBytes !== undefined) {
      const first = start(tool, { served, folder, certificatePath })
      const isOver = new Promise((resolve) => first.once('exit', resolve))
      while (first.exitCode === null && (await sentBytes(served, certificatePath)) - before < killAtBytes)
        await delay(5)
      first.kill('SIGKILL')
      await isOver
    }
    const startedMs = performance.now()
    const child = start(tool, { served, folder, certificatePath })
    const cost = watchCost(child)
    const said = collect(child)
    const code = await new Promise<number | null>((resolve) => child.once('exit', resolve))
    const seconds = (performance.now() - startedMs) / 1000
    if (code !== 0) throw new Error(`${tool.name} ended with ${code}: ${said().slice(-300)}`)
    for (const { name, sha256 } of served.files)
      if (sha256OfFile(join(folder, name)) !== sha256) throw new Error(`${tool.name} brought a wrong ${name}`)
    return { seconds, ...cost(), sentBytes: (await sentBytes(served, certificatePath)) - before }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const start = (
  tool: Tool,
  context: { readonly served: Served; readonly folder: string; readonly certificatePath: string },
): ChildProcess => {
  const [program = '', ...args] = tool.command(context.served, context)
  return spawn(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: context.folder,
      ...tool.environment(context.served, context),
    },
  })
}

/** What a program writes to standard error is told only when it fails. */
const collect = (child: ChildProcess): (() => string) => {
  let text = ''
  child.stderr?.on('data', (bytes) => (text = `${text}${String(bytes)}`.slice(-4096)))
  return () => text.trim()
}

/** Looks at a process until it ends: the last look is what it cost. */
const watchCost = (child: ChildProcess): (() => Pick<Measured, 'cpuSeconds' | 'peakBytes'>) => {
  let cpuSeconds = 0
  let peakBytes = 0
  const look = (): void => {
    try {
      const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
      cpuSeconds = Math.max(cpuSeconds, (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND)
      const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]
      peakBytes = Math.max(peakBytes, Number(peak ?? 0) * 1024)
    } catch {
      // It has ended.
    }
  }
  const timer = setInterval(look, 10)
  child.once('exit', () => clearInterval(timer))
  return () => ({ cpuSeconds, peakBytes })
}

const sentBytes = (served: Served, certificatePath: string): Promise<number> =>
  new Promise((resolve, reject) => {
    const url = `${served.url}/stats`
    const onReply = (reply: IncomingMessage): void => {
      let text = ''
      reply.on('data', (bytes) => (text += String(bytes)))
      reply.on('end', () => resolve((JSON.parse(text) as { sentBytes: number }).sentBytes))
    }
    const asked =
      served.certificate === null
        ? getPlain(url, { agent: false }, onReply)
        : getTls(url, { agent: false, ca: readFileSync(certificatePath) }, onReply)
    asked.on('error', reject)
  })

const sha256OfFile = (path: string): string => {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(2 ** 22)
  const file = openSync(path, 'r')
  try {
    for (let count = -1; count !== 0;) {
      count = readSync(file, buffer)
      hash.update(buffer.subarray(0, count))
    }
  } finally {
    closeSync(file)
  }
  return hash.digest('hex')
}
