import type { IncomingMessage } from 'node:http'

/**
 * True for a request that the page itself or a program of this machine sends. A page from elsewhere reaches loopback
 * too: it says so in Origin or Sec-Fetch-Site, and one that renames itself to 127.0.0.1 (DNS rebinding) in Host.
 */
export const isOwnRequest = (
  { headers, rawHeaders }: Pick<IncomingMessage, 'headers' | 'rawHeaders'>,
  port: number,
): boolean => {
  const own = [`127.0.0.1:${port}`, `localhost:${port}`]
  const hosts = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host')
  if (hosts.length !== 1 || !own.includes(headers.host ?? '')) return false
  const { origin } = headers
  if (origin !== undefined && !own.some((authority) => origin === `http://${authority}`)) return false
  const site = headers['sec-fetch-site']
  // `none` is what the user typed or clicked outside of any page.
  return site === undefined || site === 'same-origin' || site === 'none'
}
