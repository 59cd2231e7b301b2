import { z } from 'zod'
import { parseDuration, parseSize } from '../contract/units.ts'

/*
 * The building blocks of the manifest's schema. A message is said of the value (“is not a duration”); what follows
 * “; ” in it becomes the hint.
 */

/** `10GB`, `512MiB` or a number of bytes → bytes. */
export const size = z
  .union([z.string(), z.number()], 'is not a size; write 10GB or 512MiB')
  .transform((value, context): number => {
    const bytes = parseSize(String(value))
    if (bytes !== undefined) return bytes
    context.issues.push({ code: 'custom', message: 'is not a size; write 10GB or 512MiB', input: value })
    return z.NEVER
  })

/** `90s`, `2m`, `1h30m` → milliseconds. */
export const duration = z
  .string('is not a duration; write 90s, 2m or 1h30m')
  .transform((value, context): number => {
    const ms = parseDuration(value)
    if (ms !== undefined) return ms
    context.issues.push({
      code: 'custom',
      message: 'is not a duration; write 90s, 2m or 1h30m',
      input: value,
    })
    return z.NEVER
  })

/** The name of a process, a sync, a remote, or the manifest itself. */
export const name = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_-]{0,62}$/i,
    'is not a name; use letters, digits, “-” and “_”, at most 63 characters',
  )

/** A path on the box that `${NAME}` may be part of. */
export const path = z
  .string()
  .min(1, 'is empty; write a path')
  .superRefine((value, context) => {
    const reason = unsafeReason(value)
    if (reason !== undefined)
      context.addIssue({ code: 'custom', message: reason, params: { code: 'unsafe_path' } })
  })

export const absolutePath = path.refine(
  (value) => value === '' || /^(\/|\$\{)/.test(value),
  'is not an absolute path; start it with “/”',
)

/** Why a path could lead to another place than it says, or undefined. A backslash is a separator on Windows. */
const unsafeReason = (value: string): string | undefined => {
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
  if (/[\u0000-\u001f\u007f]/.test(value)) return 'holds a control character; use a plain path'
  if (value.includes('\\') || /^[a-z]:/i.test(value)) return 'is not a path of Linux; use “/” between folders'
  if (value.startsWith('~')) return 'starts with “~”, which is not expanded; write the whole path'
  const parts = value.split('/')
  if (parts.includes('..')) return 'leaves its folder with “..”; write the path without “..”'
  if (parts.some((part) => Buffer.byteLength(part) > 255))
    return 'has a part of more than 255 bytes; shorten it'
  return undefined
}

/** A file below a folder, or an absolute one: no empty part, no `.`, no slash at its end. */
export const filePath = path.refine(
  (value) =>
    !value
      .replace(/^\//, '')
      .split('/')
      .some((part) => part === '' || part === '.'),
  'is not the path of a file; write it without “.”, “//” and a “/” at its end',
)

export const secretName = z
  .string()
  .regex(
    /^[A-Z][A-Z0-9_]*$/,
    'is not the name of a secret; write names only, like HF_TOKEN, and never values',
  )
export const sha256 = z
  .string()
  .regex(/^[0-9a-f]{64}$/i, 'is not a sha256; write its 64 hexadecimal digits')
  .toLowerCase()
export const source = z.string().regex(
  // A repository's own file names may hold spaces; an address has them encoded.
  /^(?:hf:\/\/[^\s/](?:.*\S)?|(?:civitai|https?):\/\/[^\s/]\S*)$/,
  'is not a source; write hf://owner/repo@revision/path, civitai://versions/ID or https://…',
)
export const gitUrl = z
  .string()
  .regex(/^https?:\/\/[^\s@]+$/, 'is not a git address; write https://… without a user or a password in it')
export const gitRef = z
  .string()
  .regex(/^[0-9A-Za-z][\w./-]{0,199}$/, 'is not a git ref; write a commit of 40 digits, a branch or a tag')
  .refine((ref) => !ref.includes('..'), 'is not a git ref; write a commit of 40 digits, a branch or a tag')
const argumentText = z.string().refine((text) => !text.includes('\0'), 'holds a NUL character; take it out')
export const command = z
  .array(argumentText)
  .min(1, 'is empty; write at least the program')
  .refine(([program]) => program !== '', 'names no program; write it first')
export const port = z
  .int('is not a port; write a whole number from 1 to 65535')
  .min(1, 'is not a port; write a whole number from 1 to 65535')
  .max(65_535, 'is not a port; write a whole number from 1 to 65535')

/** A positive whole number of things. */
export const count = z.int('is not a whole number; write 1 or more').min(1, 'is too small; write 1 or more')

/** Text, a number or true/false, all of them text once read: what environments and rclone's options hold. */
export const scalarText = z
  .union([z.string(), z.number(), z.boolean()], 'is not a plain value; write text, a number, true or false')
  .transform(String)

export const flag = (byDefault: boolean) => z.boolean().default(byDefault)
export const list = <T extends z.ZodType>(item: T) => z.array(item).default([])
