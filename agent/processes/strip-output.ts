/* eslint-disable no-control-regex -- control characters are exactly what this file is about */

// Strings between an introducer and their end: OSC, DCS, SOS, PM, APC (ESC ] P X ^ _ and their one-byte forms).
const STRINGS = /(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?/g
const CSI = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?/g
const OTHER_ESCAPES = /\x1b[ -/]*[0-~]?/g
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g
/** Characters that turn the reading direction: they make a log line read as something it is not. */
const BIDI = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

/**
 * A program's output as plain text: without escape sequences (a terminal would obey them: titles, clipboard, answers
 * typed into the shell), control characters but newline and tab, and characters that turn the reading direction.
 * A carriage return begins a new line: progress bars become one line a step. Pure; needs whole sequences, see
 * createOutputStripper for a stream.
 */
export const stripOutput = (text: string): string =>
  text
    .replace(STRINGS, '')
    .replace(CSI, '')
    .replace(OTHER_ESCAPES, '')
    .replace(/\r+\n|\r/g, '\n')
    .replace(CONTROLS, '')
    .replace(BIDI, '')

const LONGEST_SEQUENCE = 4_096
const OPEN_TAIL =
  /(?:\x1b(?:[\]PX^_][^\x07\x1b\x9c]*\x1b?|\[?[0-?]*[ -/]*)|[\x90\x98\x9d-\x9f][^\x07\x1b\x9c]*\x1b?|\x9b[0-?]*[ -/]*|\r+)$/

/** Strips a stream of bytes: characters and sequences that are cut by a chunk's end wait for the next one. */
export const createOutputStripper = () => {
  const decoder = new TextDecoder('utf-8')
  let rest = ''
  const take = (text: string, last: boolean): string => {
    const whole = rest + text
    const open = last ? -1 : whole.search(OPEN_TAIL)
    // A sequence that never ends must not hold back everything after it.
    const cut = open === -1 || whole.length - open > LONGEST_SEQUENCE ? whole.length : open
    rest = whole.slice(cut)
    return stripOutput(whole.slice(0, cut))
  }
  return {
    push: (bytes: Uint8Array): string => take(decoder.decode(bytes, { stream: true }), false),
    end: (): string => take(decoder.decode(), true),
  }
}
