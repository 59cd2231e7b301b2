import { constants, copyFile, link, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { z } from 'zod'
import { makeFolders } from '../../shared/make-folders.ts'
import { processStart } from '../../shared/process-start.ts'
import { readBootId } from '../platform/boot-id.ts'
import { errnoOf, fileError } from '../platform/files.ts'

/*
 * Two agents with one models folder (a shared volume, a second home) would write one partial file. Kernel locks do
 * nothing on many network file systems, so a small file says who writes: its process, and when that began, since process
 * ids come back. One on another machine, or in another container, is taken for alive while it keeps touching its claim.
 */

const Claim = z.object({ pid: z.number().int().positive(), started: z.string(), where: z.string() })
type Claim = z.infer<typeof Claim>

export const claimPath = (path: string): string => `${path}.part.claim`

const TOUCH_EVERY_MS = 15_000
/** Four touches missed. */
const SILENT_MS = 60_000

export type HeldClaim = { readonly release: () => Promise<void> }

/**
 * Claims a destination for this process; undefined while another living one has it. What a dead one left is cleared.
 * @throws AgentError disk_full, read_only, io_error, destination_invalid
 */
export const takeClaim = async (path: string): Promise<HeldClaim | undefined> => {
  const claim = claimPath(path)
  const own = `${claim}.${randomBytes(4).toString('hex')}`
  try {
    await makeFolders(dirname(path))
    await writeFile(own, JSON.stringify(describeSelf()), { flag: 'wx' })
    try {
      // A link appears whole and only once, on network file systems too.
      if (!(await tryLink(own, claim))) {
        if (await isHeld(claim)) return undefined
        await rm(claim, { force: true })
        if (!(await tryLink(own, claim))) return undefined
      }
    } finally {
      await rm(own, { force: true })
    }
  } catch (error) {
    throw fileError(error, `cannot claim ${path}`)
  }
  await sweepTorn(claim)
  const touch = setInterval(() => {
    // A claim that cannot be touched is one that is gone; nothing is left to say about it.
    utimes(claim, new Date(), new Date()).catch(() => undefined)
  }, TOUCH_EVERY_MS)
  touch.unref()
  return {
    release: async () => {
      clearInterval(touch)
      await rm(claim, { force: true })
    },
  }
}

/** What agents left that were killed in the moment in which they claimed this destination. */
const sweepTorn = async (claim: string): Promise<void> => {
  const prefix = `${basename(claim)}.`
  for (const name of await readdir(dirname(claim)).catch(() => [])) {
    if (!name.startsWith(prefix) || !/^[0-9a-f]{8}$/.test(name.slice(prefix.length))) continue
    const path = join(dirname(claim), name)
    const stats = await stat(path).catch(() => undefined)
    if (stats && Date.now() - stats.mtimeMs > SILENT_MS) await rm(path, { force: true })
  }
}

const tryLink = async (from: string, to: string): Promise<boolean> => {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    if (!NO_LINKS.includes(errnoOf(error) ?? '')) throw error
    return await copyFile(from, to, constants.COPYFILE_EXCL).then(
      () => true,
      () => false,
    )
  }
}

/** What file systems without hard links answer. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS']

const isHeld = async (claim: string): Promise<boolean> => {
  const stats = await stat(claim).catch(() => undefined)
  if (stats === undefined) return false
  let holder: Claim
  try {
    holder = Claim.parse(JSON.parse(await readFile(claim, 'utf8')))
  } catch {
    // Not a claim of an agent, or torn by a crash.
    return false
  }
  if (holder.where === readBootId()) return processStart(holder.pid) === holder.started
  return Date.now() - stats.mtimeMs < SILENT_MS
}

const describeSelf = (): Claim => ({
  pid: process.pid,
  started: processStart(process.pid) ?? '',
  where: readBootId(),
})
