/** What a line says beside its text. The line's own three names are refused by type, for one would overwrite the other. */
type Fields = Readonly<Record<string, unknown>> & {
  readonly at?: never
  readonly level?: never
  readonly message?: never
}

type Write = (message: string, fields?: Fields) => void

/** The agent's own log: one JSON object a line on standard error, secrets taken out by value. */
export type Log = { readonly info: Write; readonly warn: Write; readonly error: Write }

export const createLog = (
  write: (line: string) => void,
  redact: (text: string) => string,
  now: () => Date,
): Log => {
  const line =
    (level: string): Write =>
    (message, fields = {}) =>
      write(redact(JSON.stringify({ at: now().toISOString(), level, message, ...fields })))
  return { info: line('info'), warn: line('warn'), error: line('error') }
}
