/**
 * The file's name as the server gives it, or else from the last part of the address; null when neither is usable.
 * Path parts are stripped: a name never leads out of the folder it is used in.
 */
export const fileNameFrom = (
  urls: { readonly original: string; readonly final: string },
  headers: Readonly<Record<string, string>>,
): string | null =>
  dispositionName(headers['content-disposition']) ??
  dispositionName(new URL(urls.final).searchParams.get('response-content-disposition') ?? undefined) ??
  dispositionName(new URL(urls.final).searchParams.get('b2ContentDisposition') ?? undefined) ??
  safeName(decode(new URL(urls.original).pathname))

const dispositionName = (header: string | undefined): string | null => {
  if (header === undefined) return null
  const extended = /filename\*\s*=\s*(?:utf-8|iso-8859-1)'[^']*'([^;\s]+)/i.exec(header)?.[1]
  if (extended !== undefined) return safeName(decode(extended))
  const plain = /filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]+))/i.exec(header)
  return plain ? safeName((plain[1]?.replaceAll(/\\(.)/g, '$1') ?? plain[2] ?? '').trim()) : null
}

const safeName = (text: string): string | null => {
  const name = text.split(/[/\\]/).at(-1)?.trim() ?? ''
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is refused
  const bad = name === '' || name === '.' || name === '..' || /[\u0000-\u001f\u007f]/.test(name)
  return bad || Buffer.byteLength(name) > 255 ? null : name
}

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
