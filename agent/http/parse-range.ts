/** One range of `bytes=a-b`, `bytes=a-` or `bytes=-n`. What is not understood is ignored, as the RFC asks. */
export const parseRange = (
  header: string,
  sizeBytes: number,
): { readonly start: number; readonly end: number } | 'whole' | 'unsatisfiable' => {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header.trim())
  if (!match || (match[1] === '' && match[2] === '')) return 'whole'
  const suffix = match[1] === ''
  const start = suffix ? Math.max(0, sizeBytes - Number(match[2])) : Number(match[1])
  const end = suffix || match[2] === '' ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1)
  if (start >= sizeBytes || end < start) return 'unsatisfiable'
  return { start, end }
}
