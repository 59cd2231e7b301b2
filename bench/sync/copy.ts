import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { findRclone, serveS3 } from '../../tests/support/rclone.ts'
import { median } from '../measure.ts'
import { printGoal, printSkipped } from './goals.ts'
import { mustDo, timed, withAgent, writeLarge } from './world.ts'

const KEY = { key: 'bench-key', secret: 'bench-secret' }
const SETTLE_S = 2
const ROUNDS = 5

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

const manifestOf = ({
  url,
  source,
  run = 'run',
}: {
  url: string
  source: string
  run?: string
}): string => `remotes:
  s: {type: s3, provider: Rclone, endpoint: "${url}", access_key_id: ${KEY.key}, secret_access_key: "\${BENCH_SECRET}"}
secrets: {required: [BENCH_SECRET]}
sync:
  - {name: s, path: ${source}, to: "s:ours/${run}", every: 4h, settle: ${SETTLE_S}s}
`

/**
 * A folder copied by the agent, until it is proven, beside what rclone alone takes to copy it: the medians of both, which
 * take turns.
 */
export const compareCopy = (
  what: string,
  { source, folder }: { source: string; folder: string },
): Promise<void> =>
  withS3(what, {
    folder,
    work: async ({ url, remote, program }) => {
      const env = {
        RCLONE_CONFIG: '',
        HOME: folder,
        RCLONE_CONFIG_S_TYPE: 's3',
        RCLONE_CONFIG_S_PROVIDER: 'Rclone',
        RCLONE_CONFIG_S_ENDPOINT: url,
        RCLONE_CONFIG_S_ACCESS_KEY_ID: KEY.key,
        RCLONE_CONFIG_S_SECRET_ACCESS_KEY: KEY.secret,
      }
      const [bare, proven, ours]: [number[], number[], number[]] = [[], [], []]
      for (let round = 0; round < ROUNDS; round += 1) {
        const run = `run-${round}`
        const rclone = (verb: string, ...flags: readonly string[]): Promise<number> =>
          timed(() =>
            execFileSync(program, [verb, source, `s:bare/${run}`, ...flags], { env, stdio: 'ignore' }),
          )
        bare.push(await rclone('copy', ...CAREFUL))
        proven.push((bare.at(-1) ?? 0) + (await rclone('check')))
        rmSync(join(remote, 'bare', run), { recursive: true })
        ours.push(await copyByAgent({ url, source, run, moved: join(folder, 'nothing-yet') }))
        rmSync(join(remote, 'ours', run), { recursive: true })
      }
      const note = `${median(ours).toFixed(1)} s without ${SETTLE_S} s of settling, rclone copy ${median(bare).toFixed(1)} s, with rclone check ${median(proven).toFixed(1)} s`
      const value = median(ours) / median(bare)
      printGoal({ what, value, unit: '× bare rclone', atMost: 1.1, note })
    },
  })

/** Seconds until all of it is proven on the remote. It is found when the copy is asked for; what only has to settle is not counted. */
const copyByAgent = async (copy: {
  url: string
  source: string
  run: string
  moved: string
}): Promise<number> => {
  const { url, source, run, moved } = copy
  let seconds = 0
  await withAgent(
    manifestOf({ url, source: moved, run }),
    async (agent) => {
      execFileSync('mv', [source, moved])
      seconds = (await timed(() => mustDo(agent, ['sync', '--now']))) - SETTLE_S
      execFileSync('mv', [moved, source])
    },
    { BENCH_SECRET: KEY.secret },
  )
  return seconds
}

/** From the end of a write to the record on the remote, by the watch alone. */
export const measureLag = (folder: string): Promise<void> =>
  withS3('lag of a file of 100 MB', {
    folder,
    work: async ({ url, remote }) => {
      const source = join(folder, 'lag')
      mkdirSync(source)
      await withAgent(
        manifestOf({ url, source }),
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
