import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { allowHostsFrom, endpointsFrom } from '../shared/sources/endpoints.ts'
import { sendRequest } from '../shared/providers/send-request.ts'
import { createRecentSources } from '../shared/sources/recent-sources.ts'
import type { ResolveDeps } from '../shared/sources/resolved-source.ts'
import { AgentError, problemFrom } from '../shared/contract/errors.ts'
import type { Problem } from '../shared/contract/errors.ts'
import { createJournal } from './apply/journal.ts'
import type { Rooms } from './apply/rooms.ts'
import { createRuns } from './apply/runs.ts'
import { createBudget } from './budget/budget.ts'
import { busyDownloads, busyGpus, busyProcesses, busyRun, busySyncs, SYNC } from './budget/evidence.ts'
import { createBudgetStore } from './budget/memory.ts'
import { createOpenWork } from './budget/open-work.ts'
import { OWN_KEYS } from './budget/own-box.ts'
import type { AgentConfig } from './config.ts'
import { checkDestination } from './downloads/destination.ts'
import { createDownloads } from './downloads/downloads.ts'
import { createNotify } from './notify/notify.ts'
import { readAgentId } from './platform/agent-id.ts'
import { systemClock } from './platform/clock.ts'
import { findProgram } from './platform/commands.ts'
import { layBallast, openWithoutBallast } from './platform/ballast.ts'
import { openDatabase } from './platform/database.ts'
import { makePrivateFolder, sweepTemporaryFiles } from './platform/files.ts'
import { readGpus } from './platform/gpu.ts'
import { createHttpClient } from './platform/http-client.ts'
import { createLog } from './platform/log.ts'
import { readMoment } from './platform/moment.ts'
import { createPostJson } from './platform/post-json.ts'
import { openSecretFile } from './platform/secret-file.ts'
import { readSecrets } from './platform/secrets.ts'
import { createProcesses } from './processes/processes.ts'
import { cloneCustomNodes } from './python/custom-nodes.ts'
import type { PythonContext } from './python/context.ts'
import { planPython } from './python/plan-python.ts'
import { preparePython } from './python/prepare-python.ts'
import { runNodeScripts } from './python/run-node-scripts.ts'
import { allOverlayDists } from './python/unwanted-dists.ts'
import { checkRemote } from './sync/check-remote.ts'
import { createSync } from './sync/sync.ts'

/** The system's secrets file; in a home of its own the agent looks there first. */
const SECRETS_FILE = '/etc/gpu-agent/secrets.env'

/** Until then a process that runs may look as if it did not. */
const NOT_ADOPTED = 'what still runs is being looked for'

/**
 * Builds the outside world and the rooms, each from the ones before it; nothing runs yet.
 * @throws AgentError home_unusable, state_too_new
 */
export const composeRooms = async (config: AgentConfig) => {
  const { environment, searchPath, stateFolder, runFolder } = config
  const clock = systemClock
  const problems: Problem[] = []

  // the outside world
  await makePrivateFolder(stateFolder)
  await makePrivateFolder(runFolder)
  await makePrivateFolder(join(runFolder, 'sync'))
  await sweepTemporaryFiles(stateFolder)
  const secretsPath = join(stateFolder, 'secrets.env')
  const secrets = readSecrets(environment, { set: secretsPath, secrets: SECRETS_FILE })
  const secretFile = openSecretFile(secretsPath)
  secrets.declare([...secretFile.names(), ...Object.values(OWN_KEYS)])
  const log = createLog((line) => process.stderr.write(`${line}\n`), secrets.redact, clock.now)
  const { db, quarantined } = await openWithoutBallast(stateFolder, () =>
    openDatabase(stateFolder, clock.now),
  )
  await layBallast(stateFolder)
  const agentId = readAgentId(db)
  const endpoints = endpointsFrom(environment)
  const allowHosts = allowHostsFrom(environment)
  const http = createHttpClient({ endpoints, allowHosts })

  // the journal, and what every room is told through
  const journal = createJournal({
    db,
    clock,
    redact: secrets.redact,
    onFailure: (error) => log.error('an event could not be kept', { error: String(error) }),
  })
  const report = journal.append
  if (quarantined) {
    report({
      type: 'agent.state-quarantined',
      subject: quarantined.path,
      data: { reason: quarantined.reason },
    })
    const error = new AgentError(
      'state_damaged',
      `the state was damaged (${quarantined.reason}); it is kept as ${quarantined.path}`,
    )
    problems.push(problemFrom(error, quarantined.path, 'warning'))
  }

  // the rooms
  const resolve: ResolveDeps = {
    fetch: http.fetch,
    endpoints,
    allowHosts,
    tokenFor: (kind) => secrets.get(kind === 'hf' ? 'HF_TOKEN' : 'CIVITAI_TOKEN'),
    clock,
    recent: createRecentSources(clock.now),
  }
  const downloads = createDownloads({ db, resolve, http, clock, report, log, limits: config.downloadLimits })
  const pythonContext: Omit<PythonContext, 'signal'> = {
    folder: join(stateFolder, 'python'),
    db,
    clock,
    report,
    log,
    environment,
    allowHosts,
  }
  const readGpuLoad = async (signal: AbortSignal) =>
    (await readGpus(searchPath, signal))?.map((gpu) => gpu.utilizationPercent) ?? null
  const processes = createProcesses({
    stateFolder,
    runFolder,
    db,
    clock,
    report,
    log,
    random: Math.random,
    redact: secrets.redact,
    readGpuLoad,
  })
  const rclone = { searchPath, environment, temporaryFolder: join(runFolder, 'sync') }
  const sync = createSync({
    db,
    clock,
    report,
    log,
    ...rclone,
  })

  const runs = createRuns({ db, clock, newId: () => randomBytes(6).toString('hex'), report })
  const openWork = createOpenWork(clock)
  // Before it is known what still runs, nothing may be started.
  let isAdopted = false
  const adopted = Promise.withResolvers<undefined>()
  const budget = createBudget({
    store: createBudgetStore(db),
    clock,
    readMoment,
    report,
    log,
    own: { lookup: (name) => secrets.get(name), send: sendRequest, clock, searchPath },
    readGpuLoad,
    flush: sync.flush,
    evidence: [
      { name: 'the run', busy: () => busyRun(runs.current()) },
      { name: 'downloads', busy: () => busyDownloads(downloads.rows()) },
      { name: 'processes', busy: () => (isAdopted ? busyProcesses(processes.activity()) : [NOT_ADOPTED]) },
      { name: SYNC, busy: () => busySyncs(sync.rows()) },
      { name: 'use through the API', busy: openWork.busy },
      { name: 'the GPU load', busy: async (signal) => busyGpus(await readGpuLoad(signal)) },
    ],
  })
  const notify = createNotify({
    db,
    clock,
    report,
    log,
    journal,
    post: createPostJson({ endpoints, allowHosts }),
    policy: { endpoints, allowHosts },
    box: { id: agentId, hostname: hostname() },
  })

  // what the main path works with
  const rooms: Rooms = {
    clock,
    log,
    report,
    secrets,
    homePath: stateFolder,
    probes: {
      searchPath,
      hasSecret: (name) => secrets.get(name) !== undefined,
      resolve,
      provenSize: async (file) => (await downloads.proven(file))?.sizeBytes,
      checkPlace: checkDestination,
      askRunning: processes.checkWorkflow,
      isSnapshotProven: (snapshot, { request, hfHome }) =>
        downloads.isSnapshotProven({
          snapshot,
          hfHome,
          optional: request.optional,
          allowPickle: request.allow_pickle,
        }),
    },
    downloads,
    python: {
      plan: (request, { signal }) => planPython(request, { ...pythonContext, signal }),
      prepare: (plan, { signal }) => preparePython(plan, { ...pythonContext, signal }),
      packages: () => allOverlayDists(pythonContext.folder),
      runScripts: (nodes, of) => runNodeScripts(nodes, { ...pythonContext, ...of }),
      cloneNodes: (nodes, { signal, folder }) =>
        cloneCustomNodes(nodes, {
          signal,
          folder,
          git: findProgram('git', searchPath) ?? 'git',
          report,
          allowHosts,
        }),
    },
    processes,
    sync,
    budget,
    notify,
    checkRemote: (planned, { signal }) => checkRemote(planned, { ...rclone, signal }),
  }

  return {
    problems,
    secretsPaths: [secretsPath, SECRETS_FILE],
    adopted: adopted.promise,
    /** Takes over what still runs under shims. Before that nothing may be started. */
    adopt: async (context: { readonly signal: AbortSignal }): Promise<void> => {
      await processes.adopt(context)
      isAdopted = true
      adopted.resolve(undefined)
    },
    ...{ db, http, log, endpoints, agentId, secrets, secretFile, journal, resolve, pythonContext },
    ...{ downloads, processes, sync, runs, openWork, budget, notify, rooms },
    close: async (): Promise<void> => {
      await http.close()
      db.close()
    },
  }
}
