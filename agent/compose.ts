import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { allowHostsFrom, endpointsFrom } from '../shared/sources/endpoints.ts'
import { sendRequest } from '../shared/providers/send-request.ts'
import { createRecentSources } from '../shared/sources/recent-sources.ts'
import type { ResolveDeps } from '../shared/sources/resolved-source.ts'
import { AgentError, problemFrom } from '../shared/contract/errors.ts'
import type { Problem } from '../shared/contract/errors.ts'
import { VERSION } from '../shared/version.ts'
import { createAudit } from './apply/audit.ts'
import { createApply } from './apply/apply.ts'
import { applyBootManifest } from './apply/boot.ts'
import { fetchText } from './apply/fetch-text.ts'
import { createGuardedPython } from './apply/guarded-python.ts'
import { createJournal } from './apply/journal.ts'
import type { Rooms } from './apply/rooms.ts'
import { createRuns } from './apply/runs.ts'
import { readClockSkew } from './audit/check-clock.ts'
import { createBudget } from './budget/budget.ts'
import { busyDownloads, busyGpus, busyProcesses, busyRun, busySyncs, SYNC } from './budget/evidence.ts'
import { createBudgetStore } from './budget/memory.ts'
import { createOpenWork } from './budget/open-work.ts'
import { OWN_KEYS } from './budget/own-box.ts'
import type { AgentConfig } from './config.ts'
import { checkDestination } from './downloads/destination.ts'
import { createDownloads } from './downloads/downloads.ts'
import { createApp } from './http/app.ts'
import { ensureLocalToken } from './http/local-token.ts'
import { takeInjectedToken, TOKEN_HASH_VARIABLE } from './http/injected-token.ts'
import { serve } from './http/serve.ts'
import { loadTlsIdentity } from './http/tls-identity.ts'
import { createTokens } from './http/tokens.ts'
import { aborted } from './platform/aborted.ts'
import { makeBox } from './make-box.ts'
import { createNotify } from './notify/notify.ts'
import { readAgentId } from './platform/agent-id.ts'
import { systemClock } from './platform/clock.ts'
import { findProgram } from './platform/commands.ts'
import { openDatabase } from './platform/database.ts'
import { makePrivateFolder, sweepTemporaryFiles } from './platform/files.ts'
import { readGpus } from './platform/gpu.ts'
import { readHost } from './platform/host.ts'
import { createHttpClient } from './platform/http-client.ts'
import { createLog } from './platform/log.ts'
import { readMoment } from './platform/moment.ts'
import { createPostJson } from './platform/post-json.ts'
import { openSecretFile } from './platform/secret-file.ts'
import { readSecrets } from './platform/secrets.ts'
import { superviseServices } from './platform/supervise.ts'
import { createProcesses } from './processes/processes.ts'
import { cloneCustomNodes } from './python/custom-nodes.ts'
import type { PythonContext } from './python/context.ts'
import { planPython } from './python/plan-python.ts'
import { preparePython } from './python/prepare-python.ts'
import { recoverPython } from './python/recover-python.ts'
import { runNodeScripts } from './python/run-node-scripts.ts'
import { allOverlayDists } from './python/unwanted-dists.ts'
import { checkRemote } from './sync/check-remote.ts'
import { createSync } from './sync/sync.ts'

/** Shorter than the time that a stopped agent has (main.ts), with room for the rest of its end. */
const LAST_FLUSH = { deadlineMs: 1_500, largestUnitBytes: 8 * 2 ** 20 }
/** The system's secrets file; in a home of its own the agent looks there first. */
const SECRETS_FILE = '/etc/gpu-agent/secrets.env'

/** Until then a process that runs may look as if it did not. */
const NOT_ADOPTED = 'what still runs is being looked for'

/**
 * Builds the program, top to bottom, each part from the ones before it. The only place that constructs things.
 * @throws AgentError home_unusable, already_running, state_too_new
 */
export const compose = async (config: AgentConfig, shutdown: AbortSignal) => {
  const { environment, searchPath, stateFolder, runFolder } = config
  const clock = systemClock
  const startedAt = clock.now().toISOString()
  const problems: Problem[] = []

  // the outside world
  await makePrivateFolder(stateFolder)
  await makePrivateFolder(runFolder)
  await makePrivateFolder(join(runFolder, 'sync'))
  await sweepTemporaryFiles(stateFolder)
  const secretsPath = join(stateFolder, 'secrets.env')
  const secrets = readSecrets(environment, [secretsPath, SECRETS_FILE])
  const secretFile = openSecretFile(secretsPath)
  secrets.declare([...secretFile.names(), ...Object.values(OWN_KEYS)])
  const log = createLog((line) => process.stderr.write(`${line}\n`), secrets.redact, clock.now)
  const { db, quarantined } = openDatabase(stateFolder, clock.now)
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
  let isAdopted = false
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

  // the main path
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
  const apply = createApply({ runs, rooms, shutdown })
  // Before it is known what still runs, nothing may be started.
  const adopted = Promise.withResolvers<undefined>()

  // the API
  const tokens = createTokens({ db, clock, report })
  ensureLocalToken(stateFolder, tokens)
  try {
    takeInjectedToken(secrets.get(TOKEN_HASH_VARIABLE), { tokens, db })
  } catch (error) {
    log.error('no token was taken from the environment', { error: String(error) })
    problems.push(problemFrom(error, TOKEN_HASH_VARIABLE, 'warning'))
  }
  const identity = config.tls.length === 0 ? undefined : loadTlsIdentity(stateFolder)
  const python = createGuardedPython({ runs, secrets, python: pythonContext, shutdown })
  const readBox = () => readHost(['/', stateFolder], { searchPath })
  const { audit } = createAudit({
    clock,
    version: VERSION,
    stateFolder,
    homeFolder: environment['HOME'],
    host: readBox,
    runs,
    secrets,
    python,
    secretFiles: [secretsPath, SECRETS_FILE],
    agentProblems: () => problems,
    clockSkew: ({ signal }) => readClockSkew(endpoints.hf, { fetch: http.fetch, now: clock.now, signal }),
  })
  const box = makeBox({
    config,
    agentId,
    startedAt,
    readHost: readBox,
    problems: () => [...problems, ...[notify.problem() ?? []].flat()],
    adopted: adopted.promise,
    apply,
    runs,
    journal,
    tokens,
    tls: identity ? { spkiPin: identity.spkiPin, ports: config.tls.map(({ port }) => port) } : null,
    secrets,
    secretFile,
    downloads,
    resolve,
    processes,
    python,
    audit,
    sync,
    budget,
    openWork,
    shutdown,
  })
  const app = createApp(box, { log, clock, stateFolder })

  return {
    /** The parts of the main path, and when they may be used: a test carries out with them what a plan refuses. */
    rooms,
    adopted: adopted.promise,
    /** Runs until the signal given to compose aborts. */
    run: async (): Promise<void> => {
      apply.resumeServices()
      // The API answers before the box is looked after, so that a slow start is visible.
      const servers = await Promise.all([
        ...config.sockets.map((path) => serve(app, { kind: 'unix', path })),
        ...(identity ? config.tls.map((at) => serve(app, { kind: 'tls', ...at, identity })) : []),
      ])
      report({ type: 'agent.started', subject: agentId, data: { version: VERSION, pid: process.pid } })
      report({
        type: 'secrets.received',
        subject: agentId,
        data: { names: secrets.known().map(({ name }) => name) },
      })
      log.info('agentd is ready', {
        version: VERSION,
        sockets: config.sockets,
        // Public: whoever has no ssh reads the pin here.
        ...(identity ? { tls: config.tls, spkiPin: identity.spkiPin } : {}),
      })
      const services = superviseServices(
        [
          ...processes.services,
          sync.service,
          budget.service,
          notify.service,
          {
            name: 'boot',
            run: async (signal) => {
              await processes.adopt({ signal })
              isAdopted = true
              adopted.resolve(undefined)
              await recoverPython({ ...pythonContext, signal })
              await applyBootManifest(config.manifest, {
                apply,
                runs,
                fetchText: (url) => fetchText(url, { fetch: http.fetch, signal }),
                log,
              })
              await aborted(signal)
            },
          },
        ],
        { clock, log, signal: shutdown },
      )
      await services
      await Promise.all([
        apply.idle(),
        // What is small and complete may save an hour of training; the rest goes on at the next start.
        sync.flush({ ...LAST_FLUSH, signal: new AbortController().signal }),
      ])
      report({ type: 'agent.stopping', subject: agentId })
      await Promise.all(servers.map((server) => server.close()))
    },
    close: async (): Promise<void> => {
      await http.close()
      db.close()
    },
  }
}
