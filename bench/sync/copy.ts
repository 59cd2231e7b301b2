import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { findRclone, serveS3 } from '../../tests/support/rclone.ts'
import { printGoal, printSkipped } from './goals.ts'
import { mustDo, timed, withAgent, writeLarge } from './world.ts'

const KEY = { key: 'bench-key', secret: 'bench-secret' }
const SETTLE_S = 2

/** What a careful user gives rclone: one stream a file, since with several it stores torn files, and as many files at once as the agent. */
const CAREFUL = ['--multi-thread-streams=0', '--transfers=8']

type Served = { readonly url: string; readonly remote: string; readonly program: string }

const withS3 = async (
  what: string,
  { folder, work }: { folder: string; work: (served: Served) => Promise<void> },
): Promise<void> => {
  const rclone = findRclone()
  if (rclone.path === undefined) {
    printSkipped(what, rclone.reason)
    return
  }
  const remote = mkdtempSync(join(folder, 'remote-'))
  for (const bucket of ['ours', 'bare']) mkdirSync(join(remote, bucket))
  const server = await serveS3(rclone.path, { folder: remote, ...KEY, isAlone: true })
  try {
    await work({ url: server.url, remote, program: rclone.path })
  } finally {
    await server.close()
    rmSync(remote, { recursive: true, force: true })
  }
}

const manifestOf = (url: string, source: string): string => `remotes:
  s: {type: s3, provider: Rclone, endpoint: "${url}", access_key_id: ${KEY.key}, secret_access_key: "\${BENCH_SECRET}"}
secrets: {required: [BENCH_SECRET]}
sync:
  - {name: s, path: ${source}, to: "s:ours/run", every: 4h, settle: ${SETTLE_S}s}
`

/** A folder copied by the agent, until it is proven, beside what rclone alone takes to copy it. */
export const compareCopy = (
  what: string,
  { source, folder }: { source: string; folder: string },
): Promise<void> =>
  withS3(what, {
    folder,
    work: async ({ url, program }) => {
      const env = {
        RCLONE_CONFIG: '',
        HOME: folder,
        RCLONE_CONFIG_S_TYPE: 's3',
        RCLONE_CONFIG_S_PROVIDER: 'Rclone',
        RCLONE_CONFIG_S_ENDPOINT: url,
        RCLONE_CONFIG_S_ACCESS_KEY_ID: KEY.key,
        RCLONE_CONFIG_S_SECRET_ACCESS_KEY: KEY.secret,
      }
      const rclone = (verb: string, ...flags: readonly string[]): Promise<number> =>
        timed(() => execFileSync(program, [verb, source, 's:bare/run', ...flags], { env, stdio: 'ignore' }))
      const bare = await rclone('copy', ...CAREFUL)
      const proven = bare + (await rclone('check'))
      await withAgent(
        manifestOf(url, join(folder, 'nothing-yet')),
        async (agent) => {
          // The agent finds the files when the copy is asked for; what only has to settle is waited for, and not counted.
          execFileSync('mv', [source, join(folder, 'nothing-yet')])
          const all = await timed(() => mustDo(agent, ['sync', '--now']))
          execFileSync('mv', [join(folder, 'nothing-yet'), source])
          const ours = all - SETTLE_S
          const note = `${ours.toFixed(1)} s without ${SETTLE_S} s of settling, rclone copy ${bare.toFixed(1)} s, with rclone check ${proven.toFixed(1)} s`
          printGoal({ what, value: ours / bare, unit: '× bare rclone', atMost: 1.1, note })
        },
        { BENCH_SECRET: KEY.secret },
      )
    },
  })

/** From the end of a write to the record on the remote, by the watch alone. */
export const measureLag = (folder: string): Promise<void> =>
  withS3('lag of a file of 100 MB', {
    folder,
    work: async ({ url, remote }) => {
      const source = join(folder, 'lag')
      mkdirSync(source)
      await withAgent(
        manifestOf(url, source),
        async () => {
          await delay(3_000)
          writeLarge(join(source, 'model.bin'), 1e8)
          const seconds = await timed(async () => {
            while (!existsSync(join(remote, 'ours/run/.gpu-agent/model.bin.json'))) await delay(20)
          })
          printGoal({
            what: 'a closed file of 100 MB is proven on the remote after',
            value: seconds,
            unit: 's',
            atMost: SETTLE_S + 5,
            note: `settle is ${SETTLE_S} s`,
          })
        },
        { BENCH_SECRET: KEY.secret },
      )
      rmSync(source, { recursive: true })
    },
  })
