import { z } from 'zod'
import { Problem } from './records.ts'

/** A socket that waits for connections or datagrams, and whose it is where that can be read. */
export const ListenerRow = z.object({
  protocol: z.enum(['tcp', 'udp']),
  address: z.string(),
  port: z.number(),
  pid: z.number().nullable(),
  program: z.string().nullable(),
  /** True unless only this machine can reach it. */
  public: z.boolean(),
})
export type ListenerRow = z.infer<typeof ListenerRow>

/** What one part of the audit found, in a word and a sentence. `unknown`: it could not be looked at, and why. */
export const AuditCheck = z.object({
  name: z.enum(['listeners', 'secrets', 'file modes', 'gpu', 'python', 'disk', 'clock', 'agent']),
  state: z.enum(['ok', 'warning', 'error', 'unknown']),
  summary: z.string(),
})
export type AuditCheck = z.infer<typeof AuditCheck>

/** The health and safety of the box, found out without changing anything on it. */
export const AuditRecord = z.object({
  at: z.iso.datetime(),
  checks: z.array(AuditCheck),
  problems: z.array(Problem),
  listeners: z.array(ListenerRow),
  /** SHA-256 over name and version of every Python package that processes see; null without a Python. */
  environmentFingerprint: z.string().nullable(),
})
export type AuditRecord = z.infer<typeof AuditRecord>
