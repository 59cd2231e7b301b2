import { readdir, readFile, readlink } from 'node:fs/promises'
import { BlockList, isIPv4 } from 'node:net'
import type { ListenerRow } from '../../shared/contract/audit-record.ts'

const TABLES = [
  // Field `st` of proc(5): 0A is TCP_LISTEN; a datagram socket without a peer is 07.
  { file: 'tcp', protocol: 'tcp', state: '0A' },
  { file: 'tcp6', protocol: 'tcp', state: '0A' },
  { file: 'udp', protocol: 'udp', state: '07' },
  { file: 'udp6', protocol: 'udp', state: '07' },
] as const

/**
 * Every socket of this network namespace that waits for others, by port. The program is null where another user owns
 * it and the agent is not root. `procFolder` is /proc.
 */
export const readListeners = async (procFolder = '/proc'): Promise<readonly ListenerRow[]> => {
  const tables = await Promise.all(
    TABLES.map(async ({ file, protocol, state }) => {
      // A kernel without IPv6 has no such table.
      const text = await readFile(`${procFolder}/net/${file}`, 'utf8').catch(() => '')
      return parseTable(text, state).map((socket) => ({ ...socket, protocol }))
    }),
  )
  const sockets = tables.flat()
  const owners = await findOwners(procFolder, new Set(sockets.map(({ inode }) => inode)))
  return sockets
    .map(({ inode, protocol, address, port }) => ({
      protocol,
      address,
      port,
      pid: owners.get(inode)?.pid ?? null,
      program: owners.get(inode)?.program ?? null,
      public: !LOOPBACK.check(address, isIPv4(address) ? 'ipv4' : 'ipv6'),
    }))
    .sort((one, other) => one.port - other.port || one.protocol.localeCompare(other.protocol))
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6')

type Socket = { readonly address: string; readonly port: number; readonly inode: string }

/** Rows of /proc/net/{tcp,udp}[6] in one state (proc(5)): local address and port in hexadecimal, inode in field 10. */
export const parseTable = (text: string, state: string): readonly Socket[] =>
  text
    .split('\n')
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === state)
    .map((fields) => {
      const [address = '', port = '0'] = (fields[1] ?? '').split(':')
      return { address: addressOf(address), port: Number.parseInt(port, 16), inode: fields[9] ?? '' }
    })

/** The kernel prints an address as words of 32 bits in the machine's own order, which is little-endian here. */
const addressOf = (hex: string): string => {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) => [...Buffer.from(word, 'hex').reverse()])
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, index) =>
    (((bytes[2 * index] ?? 0) << 8) | (bytes[2 * index + 1] ?? 0)).toString(16),
  )
  // The shortest form of an IPv6 address (RFC 5952), by the one who knows it.
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1)
}

type Owner = { readonly pid: number; readonly program: string }

/** inode of a socket → the process that holds it: the links /proc/PID/fd/N read `socket:[inode]`. */
const findOwners = async (
  procFolder: string,
  wanted: ReadonlySet<string>,
): Promise<ReadonlyMap<string, Owner>> => {
  const owners = new Map<string, Owner>()
  for (const pid of (await readdir(procFolder)).filter((name) => /^\d+$/.test(name))) {
    // It ended meanwhile, or belongs to another user.
    const descriptors = await readdir(`${procFolder}/${pid}/fd`).catch(() => [] as string[])
    for (const descriptor of descriptors) {
      const target = await readlink(`${procFolder}/${pid}/fd/${descriptor}`).catch(() => '')
      const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1]
      if (inode === undefined || !wanted.has(inode) || owners.has(inode)) continue
      const program = await readFile(`${procFolder}/${pid}/comm`, 'utf8').catch(() => '')
      owners.set(inode, { pid: Number(pid), program: program.trim() })
    }
  }
  return owners
}
