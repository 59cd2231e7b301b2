import { StringDecoder } from 'node:string_decoder'

/** A line that never ends (a progress bar drawn with carriage returns) is cut here. */
const MAX_LINE = 64 * 1024

export type LineReader = { write(bytes: Buffer): void; end(): void }

/**
 * Lines of a terminal's output. A carriage return draws a line anew: of what was drawn over, the last is kept, as
 * the terminal would show it.
 */
export const createLineReader = (onLine: (line: string) => void): LineReader => {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  const finish = (line: string): void => {
    const drawn = line.replace(/\r+$/, '')
    onLine(drawn.slice(drawn.lastIndexOf('\r') + 1))
  }
  return {
    write: (bytes) => {
      const lines = (rest + decoder.write(bytes)).split('\n')
      rest = lines.pop() ?? ''
      lines.forEach(finish)
      if (rest.length > MAX_LINE) {
        finish(rest)
        rest = ''
      }
    },
    end: () => {
      rest += decoder.end()
      if (rest !== '') finish(rest)
      rest = ''
    },
  }
}
