import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** Where a process listens: the sockets it has open, looked up in the kernel's tables (state 0A), as `127.0.0.1:80`. */
export const listeningPorts = (pid: number): string[] => {
  const open = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]
      } catch {
        // Closed meanwhile.
        return undefined
      }
    }),
  )
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === '0A' && open.has(fields[9]))
      .map((fields) => addressText(fields[1] ?? '')),
  )
}

/** The kernel writes an IPv4 address as one number, lowest byte first; longer ones stay as they are. */
const addressText = (text: string): string => {
  const [address = '', port = ''] = text.split(':')
  const bytes = address.length === 8 ? (address.match(/../g) ?? []).toReversed() : []
  const host = bytes.length === 4 ? bytes.map((byte) => Number.parseInt(byte, 16)).join('.') : address
  return `${host}:${Number.parseInt(port, 16)}`
}
