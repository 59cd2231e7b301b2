/** When a signed address stops working, as its query says: `X-Amz-Date` + `X-Amz-Expires`, or an `Expires` epoch. */
export const signedUntil = (url: URL): Date | null => {
  const started = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(url.searchParams.get('X-Amz-Date') ?? '')
  const seconds = Number(url.searchParams.get('X-Amz-Expires'))
  if (started && seconds > 0) {
    const [, year, month, day, hour, minute, second] = started.map(Number)
    const from = Date.UTC(year ?? 0, (month ?? 1) - 1, day, hour, minute, second)
    return new Date(from + seconds * 1000)
  }
  const epoch = url.searchParams.get('Expires')
  return epoch !== null && /^\d{9,11}$/.test(epoch) ? new Date(Number(epoch) * 1000) : null
}
