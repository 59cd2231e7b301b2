const SIZE_UNITS: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
}

/** Bytes of `10GB`, `512MiB`, `1.5 GB` or a plain number of bytes; undefined when it is not a size. */
export const parseSize = (text: string): number | undefined => {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim())
  if (!match) return undefined
  const unit = match[2] === '' ? 1 : SIZE_UNITS[(match[2] ?? '').toUpperCase()]
  const bytes = Number(match[1]) * (unit ?? Number.NaN)
  return Number.isSafeInteger(Math.round(bytes)) ? Math.round(bytes) : undefined
}

/** Bytes a second of `500Mbit/s`, `1Gbps` or `60MB/s`; undefined when it is not a speed. */
export const parseSpeed = (text: string): number | undefined => {
  const bits = /^(\d+(?:\.\d+)?)\s*([kmg]?)(?:bit\/s|bps)$/i.exec(text.trim())
  if (!bits) return /\/s$/.test(text.trim()) ? parseSize(text.trim().slice(0, -2)) : undefined
  return (Number(bits[1]) * (BIT_UNITS[(bits[2] ?? '').toLowerCase()] ?? Number.NaN)) / 8
}

const BIT_UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9 }

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { s: 1e3, m: 6e4, h: 36e5, d: 864e5 }

/** Milliseconds of `90s`, `2m`, `1h30m`, `2d`; undefined when it is not a duration. */
export const parseDuration = (text: string): number | undefined => {
  if (!/^(\d+(?:\.\d+)?(?:ms|[smhd]))+$/.test(text)) return undefined
  let total = 0
  for (const [, value, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g))
    total += Number(value) * (unit === 'ms' ? 1 : (DURATION_UNITS_MS[unit ?? ''] ?? Number.NaN))
  return Number.isSafeInteger(Math.round(total)) ? Math.round(total) : undefined
}

/** `1.2 GB`, `64.0 MB`, `512 B`: decimal units, as disks and links are sold. */
export const formatSize = (bytes: number): string => {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let index = 0
  while (value >= 999.5 && index < units.length - 1) {
    value /= 1000
    index += 1
  }
  return index === 0 ? `${value} B` : `${value.toFixed(1)} ${units[index] ?? ''}`
}

/** `1 file`, `3 files`: for words whose plural takes an s. */
export const formatCount = (count: number, word: string): string =>
  `${count} ${word}${count === 1 ? '' : 's'}`

/** `3 s`, `4 min 10 s`, `2 h 5 min`, `3 d 4 h`: two units at most. */
export const formatDuration = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min${seconds % 60 ? ` ${seconds % 60} s` : ''}`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ''}`
  return `${Math.floor(hours / 24)} d${hours % 24 ? ` ${hours % 24} h` : ''}`
}
