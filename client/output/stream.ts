/** The part of standard output and standard error that is used. */
export type OutputStream = {
  readonly isTTY?: boolean
  readonly columns?: number
  write(data: string | Uint8Array): boolean
  once(event: 'drain', listener: () => void): unknown
}
