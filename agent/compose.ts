import { problemFrom } from '../shared/contract/errors.ts'
import { VERSION } from '../shared/version.ts'
import { createAudit } from './apply/audit.ts'
import { createApply } from './apply/apply.ts'
import { applyBootManifest } from './apply/boot.ts'
import { fetchText } from './apply/fetch-text.ts'
import { createGuardedPython } from './apply/guarded-python.ts'
import { readClockSkew } from './audit/check-clock.ts'
import { composeRooms } from './compose-rooms.ts'
import type { AgentConfig } from './config.ts'
import { createApp } from './http/app.ts'
import { ensureLocalToken } from './http/local-token.ts'
import { takeInjectedToken, TOKEN_HASH_VARIABLE } from './http/injected-token.ts'
import { serve } from './http/serve.ts'
import { loadTlsIdentity } from './http/tls-identity.ts'
import { createTokens } from './http/tokens.ts'
import { aborted } from './platform/aborted.ts'
import { makeBox } from './make-box.ts'
import { systemClock } from './platform/clock.ts'
import { readHost } from './platform/host.ts'
import { superviseServices } from './platform/supervise.ts'
import { recoverPython } from './python/recover-python.ts'

/** Shorter than the time that a stopped agent has (main.ts), with room for the rest of its end. */
const LAST_FLUSH = { deadlineMs: 1_500, largestUnitBytes: 8 * 2 ** 20 }

/**
 * Builds the program, top to bottom, each part from the ones before it; the rooms are in compose-rooms.ts. The only
 * places that construct things.
 * @throws AgentError home_unusable, already_running, state_too_new
 */
export const compose = async (config: AgentConfig, shutdown: AbortSignal) => {
  const { environment, searchPath, stateFolder } = config
  const clock = systemClock
  const startedAt = clock.now().toISOString()
  const parts = await composeRooms(config)
  const { db, http, log, endpoints, agentId, problems, secrets, secretFile, journal, resolve } = parts
  const { downloads, processes, sync, runs, openWork, budget, notify, rooms, pythonContext } = parts
  const report = journal.append

  // the main path
  const apply = createApply({ runs, rooms, shutdown })

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
    secretFiles: parts.secretsPaths,
    agentProblems: () => problems,
    clockSkew: ({ signal }) => readClockSkew(endpoints.hf, { fetch: http.fetch, now: clock.now, signal }),
  })
  const box = makeBox({
    config,
    agentId,
    startedAt,
    readHost: readBox,
    problems: () => [...problems, ...[notify.problem() ?? []].flat()],
    adopted: parts.adopted,
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
              await parts.adopt({ signal })
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
    close: parts.close,
  }
}
