import { z } from 'zod'
import { PlanChanges, Problem } from './records.ts'

/** What an install would change, and what stands against it. */
export const PythonPlanRecord = z.object({
  problems: z.array(Problem),
  changes: PlanChanges.shape.python,
})
export type PythonPlanRecord = z.infer<typeof PythonPlanRecord>

/** An install into the overlay, and whether it can be taken back. */
export const PythonInstallRow = z.object({
  id: z.string(),
  state: z.enum(['installing', 'committed', 'rolled-back']),
  changes: PlanChanges.shape.python,
  /** Why it was rolled back. */
  reason: z.string().nullable(),
  beganAt: z.string(),
  endedAt: z.string().nullable(),
  /** True while what was there before it is kept. */
  canRollBack: z.boolean(),
})
export type PythonInstallRow = z.infer<typeof PythonInstallRow>

/** The state of the manifest's Python: found out without running or changing anything of it. */
export const PythonCheck = z.object({
  interpreter: z.string(),
  version: z.string(),
  /** The folder that installs go to; null before the first one. */
  overlay: z.string().nullable(),
  packages: z.number(),
  sharedObjects: z.number(),
  /** SHA-256 over name and version of every package that processes see. */
  fingerprint: z.string(),
  /** Packages that no install may change. */
  protected: z.array(z.object({ name: z.string(), version: z.string() })),
  problems: z.array(Problem),
})
export type PythonCheck = z.infer<typeof PythonCheck>
