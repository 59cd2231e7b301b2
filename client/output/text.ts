/*
 * What the box says is printed on the user's terminal, and a terminal obeys control characters: they can rewrite
 * what is on the screen, set the title or fill the keyboard buffer. So text reaches the terminal as `Text` only, and
 * painting it takes every control character out; colours are added after that, by us.
 */

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan'

/** A piece of a line: plain, or with a colour. Newlines in it become spaces. */
export type Text = string | { readonly text: string; readonly style: Style }

export const bold = (text: string): Text => ({ text, style: 'bold' })
export const dim = (text: string): Text => ({ text, style: 'dim' })
export const red = (text: string): Text => ({ text, style: 'red' })
export const green = (text: string): Text => ({ text, style: 'green' })
export const yellow = (text: string): Text => ({ text, style: 'yellow' })
export const cyan = (text: string): Text => ({ text, style: 'cyan' })

const SGR: Readonly<Record<Style, number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 }

/** The text as it is written, with its colour where colours are wanted. */
export const paint = (text: Text, colour: boolean): string => {
  const clean = cleanText(plain(text))
  return colour && typeof text !== 'string' ? `\u001b[${SGR[text.style]}m${clean}\u001b[0m` : clean
}

/** Columns the text takes on a terminal (wide characters count as one). */
export const widthOf = (text: Text): number => cleanText(plain(text)).length

const plain = (text: Text): string => (typeof text === 'string' ? text : text.text)

/* eslint-disable no-control-regex -- control characters are exactly what is taken out */
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-~])/g
const CONTROLS = /[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g
/* eslint-enable no-control-regex */

/** One line of harmless text: escape sequences, control characters and direction overrides are gone. */
export const cleanText = (text: string): string => cleanOutput(text).replace(/\t+/g, ' ')

/** A line that a program printed, made harmless the same way; the tabs between its columns stay. */
export const cleanOutput = (line: string): string =>
  line
    .replace(ESCAPES, '')
    .replace(CONTROLS, '')
    .replace(/[\r\n\v\f\u2028\u2029]+/g, ' ')
