/** The agent's own log: one JSON object a line on standard error, secrets taken out by value. */
export type Log = {
  readonly info: (message: string, fields?: Readonly<Record<string, unknown>>) => void
  readonly warn: (message: string, fields?: Readonly<Record<string, unknown>>) => void
  readonly error: (message: string, fields?: Readonly<Record<string, unknown>>) => void
}

export const createLog = (
  write: (line: string) => void,
  redact: (text: string) => string,
  now: () => Date,
): Log => {
  const line =
    (level: string) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}) =>
      write(redact(JSON.stringify({ at: now().toISOString(), level, message, ...fields })))
  return { info: line('info'), warn: line('warn'), error: line('error') }
}
