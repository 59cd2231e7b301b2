import type { Command } from '../command.ts'
import { apply } from './apply.ts'
import { attach } from './attach.ts'
import { audit } from './audit.ts'
import { budget } from './budget.ts'
import { boxes } from './boxes.ts'
import { checkpoints } from './checkpoints.ts'
import { completion } from './completion.ts'
import { contextLs, contextRm, contextUse } from './context.ts'
import { doctor } from './doctor.ts'
import { down } from './down.ts'
import { events } from './events.ts'
import { exec } from './exec.ts'
import { guard } from './guard.ts'
import { install } from './install.ts'
import { logs } from './logs.ts'
import { manifestCheck, manifestImport, manifestSchema } from './manifest.ts'
import { models } from './models.ts'
import { openPage } from './open.ts'
import { pair } from './pair.ts'
import { plan } from './plan.ts'
import { restart, start, stop } from './process-actions.ts'
import { ps } from './ps.ts'
import { pull } from './pull.ts'
import { pullCheckpoint } from './pull-checkpoint.ts'
import { pythonCheck, pythonHistory, pythonInstall, pythonPlan, pythonRollback } from './python.ts'
import { runCancel, runs, runShow } from './runs.ts'
import { secretLs, secretRm, secretSet } from './secret.ts'
import { status } from './status.ts'
import { sync } from './sync.ts'
import { tokenCreate, tokenLs, tokenRevoke } from './token.ts'
import { up } from './up.ts'
import { version } from './version.ts'
import { wait } from './wait.ts'
import { workflowCheck, workflowManifest } from './workflow.ts'

/** Every command, in the order of help. */
export const COMMANDS: readonly Command[] = [
  status,
  budget,
  events,
  models,
  pull,
  audit,
  plan,
  apply,
  runs,
  runShow,
  runCancel,
  manifestCheck,
  manifestImport,
  manifestSchema,
  ps,
  start,
  stop,
  restart,
  logs,
  attach,
  exec,
  wait,
  openPage,
  workflowCheck,
  workflowManifest,
  pythonCheck,
  pythonPlan,
  pythonInstall,
  pythonHistory,
  pythonRollback,
  sync,
  checkpoints,
  pullCheckpoint,
  up,
  down,
  boxes,
  guard,
  install,
  pair,
  contextLs,
  contextUse,
  contextRm,
  secretSet,
  secretLs,
  secretRm,
  tokenLs,
  tokenCreate,
  tokenRevoke,
  doctor,
  completion,
  version,
]

/** What a family of commands (`token ls`, `token create`) is about. */
export const FAMILIES: Readonly<Record<string, string>> = {
  run: 'show or cancel one run',
  manifest: 'check or import a manifest on this machine, or print the schema',
  python: 'the guarded Python environment',
  context: 'the boxes this machine knows',
  secret: 'the secrets of the box',
  workflow: 'what a ComfyUI workflow needs',
  token: 'who may talk to the box',
}
