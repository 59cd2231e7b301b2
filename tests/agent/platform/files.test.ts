import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import {
  atomicWrite,
  deviceOf,
  freeBytes,
  joinInside,
  makePrivateFolder,
  openInside,
  refuseSymlinks,
  sweepTemporaryFiles,
} from '../../../agent/platform/files.ts'
import { numbersFrom, temporaryFolder } from './temporary-folder.ts'

const writeFiles = join(import.meta.dirname, 'programs/write-files.ts')
const temporariesIn = (folder: string): string[] =>
  readdirSync(folder).filter((name) => name.endsWith('.tmp'))

describe('atomicWrite', () => {
  test('writes text and bytes with the mode that is asked for, in folders that it makes', () => {
    const path = join(temporaryFolder(), 'a/b/file')
    atomicWrite(path, 'first')
    atomicWrite(path, new Uint8Array([1, 2, 3]), { mode: 0o600 })
    expect([...readFileSync(path)]).toEqual([1, 2, 3])
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(path, '..'))).toEqual(['file'])
  })

  test(
    'killed at random moments leaves the old text or the new one, and the sweep takes what else is left',
    { timeout: 180_000 },
    async () => {
      const folder = temporaryFolder()
      const path = join(folder, 'state.json')
      const size = 2 ** 20
      writeFileSync(path, 'B'.repeat(size))
      writeFileSync(join(folder, '.notes.tmp'), 'of the user')
      const next = numbersFrom(40_507)
      let leftOver = 0
      for (let round = 0; round < 20; round += 1) {
        const writer = spawn(process.execPath, [writeFiles, path, String(size)], {
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        await once(writer.stdout, 'data')
        await delay(next(40))
        writer.kill('SIGKILL')
        await once(writer, 'exit')

        const text = readFileSync(path, 'latin1')
        expect(text.length, `round ${round}`).toBe(size)
        expect(text === 'A'.repeat(size) || text === 'B'.repeat(size), `round ${round}`).toBe(true)
        leftOver += temporariesIn(folder).length - 1
        await sweepTemporaryFiles(folder)
        expect(readdirSync(folder).sort()).toEqual(['.notes.tmp', 'state.json'])
      }
      // Kills that always fell between two writes would prove nothing.
      expect(leftOver).toBeGreaterThan(0)
    },
  )

  test('over a folder fails and leaves no temporary file', () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'taken'))
    expect(() => atomicWrite(join(folder, 'taken'), 'x')).toThrow(
      expect.objectContaining({ code: 'destination_invalid' }),
    )
    expect(readdirSync(folder)).toEqual(['taken'])
  })

  test('a sweep of a folder that is not there does nothing', async () => {
    await expect(sweepTemporaryFiles(join(temporaryFolder(), 'no'))).resolves.toBeUndefined()
  })
})

const tryMount = (): string | undefined => {
  const folder = join('/tmp', `gpu-agent-mount-probe-${process.pid}`)
  mkdirSync(folder, { recursive: true })
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', folder])
  if (mounted.status === 0) spawnSync('umount', [folder])
  spawnSync('rmdir', [folder])
  return mounted.status === 0 ? undefined : 'this user cannot mount a tmpfs'
}
const noMount = tryMount()
const because = (reason: string | undefined): string => (reason === undefined ? '' : ` (skipped: ${reason})`)
const noTrace =
  spawnSync('strace', ['-o', '/dev/null', '-e', 'inject=fsync:error=EIO', 'true']).status === 0
    ? undefined
    : 'strace cannot trace here'

describe('T20: a disk that takes less than it is given', () => {
  const smallDisk = (): string => {
    const folder = join(temporaryFolder(), 'disk')
    mkdirSync(folder)
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', folder])
    onTestFinished(() => void spawnSync('umount', [folder]))
    return folder
  }

  test.skipIf(noMount)(`a short write is never taken for a whole one${because(noMount)}`, () => {
    const folder = smallDisk()
    const path = join(folder, 'state.json')
    atomicWrite(path, 'o'.repeat(300_000))
    // 700 kB are free: the kernel writes that much of 900 kB and reports no error, the next write fails.
    expect(() => atomicWrite(path, 'n'.repeat(900_000))).toThrow(
      expect.objectContaining({ code: 'disk_full' }),
    )
    expect(readFileSync(path, 'latin1')).toBe('o'.repeat(300_000))
    expect(readdirSync(folder)).toEqual(['state.json'])
    atomicWrite(path, 'n'.repeat(400_000))
    expect(statSync(path).size).toBe(400_000)
  })

  test.skipIf(noMount)(`free space is that of the disk a path will lie on${because(noMount)}`, async () => {
    const folder = smallDisk()
    writeFileSync(join(folder, 'ballast'), Buffer.alloc(512 * 1024))
    expect(await freeBytes(join(folder, 'not/yet/there'))).toBe(512 * 1024)
    expect(await deviceOf(join(folder, 'not/yet/there'))).toBe(statSync(folder).dev)
    expect(await deviceOf(join(folder, 'ballast'))).not.toBe(await deviceOf('/proc'))
  })

  test.skipIf(noMount)(`a read-only disk is called that${because(noMount)}`, async () => {
    const folder = smallDisk()
    spawnSync('mount', ['-o', 'remount,ro', folder])
    expect(() => atomicWrite(join(folder, 'x'), 'x')).toThrow(expect.objectContaining({ code: 'read_only' }))
    await expect(makePrivateFolder(join(folder, 'home'))).rejects.toMatchObject({ code: 'home_unusable' })
  })

  test.skipIf(noTrace)(`an error of fsync is told and the old file stays${because(noTrace)}`, () => {
    const folder = temporaryFolder()
    const path = join(folder, 'state.json')
    writeFileSync(path, 'old')
    const traced = spawnSync(
      'strace',
      [
        '-o',
        '/dev/null',
        '-e',
        'inject=fsync:error=EIO:when=1',
        process.execPath,
        writeFiles,
        path,
        '5',
        '1',
      ],
      { encoding: 'utf8', timeout: 30_000 },
    )
    expect(traced.stdout).toBe('writing\nio_error\n')
    expect(readFileSync(path, 'utf8')).toBe('old')
    expect(readdirSync(folder)).toEqual(['state.json'])
  })
})

describe('joinInside', () => {
  test.each([
    ['model.safetensors', '/models/model.safetensors'],
    ['a/b/c.json', '/models/a/b/c.json'],
    ['..a/b..', '/models/..a/b..'],
    ['.hidden/file', '/models/.hidden/file'],
    ['an ünïcode näme 模型.bin', '/models/an ünïcode näme 模型.bin'],
    ['-rf', '/models/-rf'],
    ['a'.repeat(255), `/models/${'a'.repeat(255)}`],
  ])('T35: %j stays inside', (relative, joined) => {
    expect(joinInside('/models', relative)).toBe(joined)
  })

  test.each([
    ['', 'nothing'],
    ['.', 'the folder itself'],
    ['..', 'the folder above'],
    ['../model', 'a folder above'],
    ['../../../etc/passwd', 'the root'],
    ['folder/../../../etc/passwd', 'the root by a detour'],
    ['folder/..', 'the folder itself by a detour'],
    ['a/./b', 'a part that is no name'],
    ['a//b', 'an empty part'],
    ['a/', 'a folder'],
    ['/etc/passwd', 'an absolute path'],
    ['//host/share', 'a network path'],
    ['..\\..\\Windows\\evil', 'the root on Windows'],
    ['folder\\..\\..\\evil', 'a folder above on Windows'],
    ['C:\\Windows\\System32\\evil', 'a drive'],
    ['C:/Windows/System32/evil', 'a drive with slashes'],
    ['c:evil', 'a drive in small letters'],
    ['D:relative\\evil', 'the current folder of a drive'],
    ['folder/C:\\Windows\\evil', 'a drive further inside'],
    ['folder/C:/Windows/evil', 'a drive further inside, with slashes'],
    ['\\\\attacker\\share\\evil', 'a network share'],
    ['\\\\?\\C:\\evil', 'a device path'],
    ['\\evil', 'the root of the drive'],
    ['a\0b', 'a NUL character'],
    ['a\nb', 'a line feed'],
    ['a\u007fb', 'a delete character'],
    ['a'.repeat(256), 'a part that is too long'],
    ['ä'.repeat(128), 'a part that is too long in bytes'],
  ])('T35: %j is refused: %s', (relative) => {
    expect(() => joinInside('/models', relative)).toThrow(expect.objectContaining({ code: 'unsafe_path' }))
  })
})

describe('refuseSymlinks', () => {
  test('T35: a link in the middle or at the end is refused, wherever it leads', async () => {
    const root = temporaryFolder()
    mkdirSync(join(root, 'real/deep'), { recursive: true })
    symlinkSync('/etc', join(root, 'out'))
    symlinkSync('real', join(root, 'in'))
    symlinkSync('nowhere', join(root, 'real/dangling'))
    for (const path of ['out/passwd', 'out', 'in/deep', 'real/dangling', 'real/dangling/x'])
      await expect(refuseSymlinks(root, join(root, path)), path).rejects.toMatchObject({
        code: 'unsafe_path',
      })
  })

  test('what is real or not there yet passes, also under a root that is a link itself', async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'real/deep'), { recursive: true })
    writeFileSync(join(folder, 'real/file'), '')
    symlinkSync('real', join(folder, 'root'))
    const root = join(folder, 'root')
    for (const path of ['deep/new/file', 'deep', 'file', 'file/x'])
      await expect(refuseSymlinks(root, join(root, path)), path).resolves.toBeUndefined()
    await expect(refuseSymlinks(`${root}/`, join(root, 'deep'))).resolves.toBeUndefined()
    await expect(refuseSymlinks(root, root)).resolves.toBeUndefined()
  })

  test('T35: a path beside the root is refused', async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'ab'))
    await expect(refuseSymlinks(join(folder, 'a'), join(folder, 'ab/c'))).rejects.toMatchObject({
      code: 'unsafe_path',
    })
  })
})

describe('makePrivateFolder', () => {
  test('makes a folder for its user alone, and may be called again', async () => {
    const path = join(temporaryFolder(), 'state/inner')
    await makePrivateFolder(path)
    await makePrivateFolder(path)
    expect(statSync(path).mode & 0o777).toBe(0o700)
    expect(readdirSync(path)).toEqual([])
  })

  test('a place that is a file is no home', async () => {
    const path = join(temporaryFolder(), 'file')
    writeFileSync(path, '')
    chmodSync(path, 0o600)
    await expect(makePrivateFolder(path)).rejects.toMatchObject({ code: 'home_unusable' })
    expect(existsSync(path)).toBe(true)
  })
})

describe('openInside', () => {
  const flags = constants.O_RDWR | constants.O_CREAT

  test('makes the folders that are not there, and opens what is', async () => {
    const root = temporaryFolder()
    for (const path of ['a', 'b/c/d', 'b/c/e']) {
      const handle = await openInside({ root, path: join(root, path) }, { flags, mode: 0o644 })
      await handle.writeFile(path)
      await handle.close()
      expect(readFileSync(join(root, path), 'utf8')).toBe(path)
    }
    const together = ['x/y/1', 'x/y/2', 'x/y/3'].map((path) =>
      openInside({ root, path: join(root, path) }, { flags, mode: 0o644 }),
    )
    for (const handle of await Promise.all(together)) await handle.close()
  })

  test('T35: a link on the way or at the end is not followed', async () => {
    const root = temporaryFolder()
    const outside = temporaryFolder()
    mkdirSync(join(root, 'real'))
    symlinkSync(outside, join(root, 'out'))
    symlinkSync(join(outside, 'file'), join(root, 'real/link'))
    for (const path of ['out/file', 'out/deep/file', 'real/link', 'out'])
      await expect(
        openInside({ root, path: join(root, path) }, { flags, mode: 0o644 }),
        path,
      ).rejects.toThrow()
    expect(readdirSync(outside)).toEqual([])
  })

  test('T35: a folder that is swapped for a link, again and again, never leads out', async () => {
    const root = temporaryFolder()
    const outside = temporaryFolder()
    const racer = spawn(process.execPath, [
      '-e',
      `const fs = require('node:fs')
       const [, folder, outside] = process.argv
       const attempt = (step) => { try { step() } catch {} }
       for (;;) {
         attempt(() => fs.rmSync(folder, { recursive: true, force: true }))
         attempt(() => fs.symlinkSync(outside, folder))
         attempt(() => fs.unlinkSync(folder))
         attempt(() => fs.mkdirSync(folder))
       }`,
      join(root, 'models'),
      outside,
    ])
    const seen = { opened: 0, refused: 0 }
    try {
      for (let round = 0; round < 50_000 && (seen.opened < 100 || seen.refused < 100); round += 1)
        await openInside({ root, path: join(root, 'models', `${round}`) }, { flags, mode: 0o644 }).then(
          async (handle) => {
            seen.opened += 1
            await handle.close()
          },
          () => (seen.refused += 1),
        )
    } finally {
      racer.kill('SIGKILL')
    }
    expect(readdirSync(outside)).toEqual([])
    expect(seen.opened).toBeGreaterThan(0)
    expect(seen.refused).toBeGreaterThan(0)
  })
})
