import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

/**
 * Loopback is open to everybody on a machine, and a page like ComfyUI's runs whatever it is sent. So the address that is
 * printed holds a code: whoever shows it first gets a cookie, and nobody else is let in. The code works once.
 */
export const createVisitorCheck = (port: number) => {
  const code = randomBytes(24).toString('base64url')
  // Cookies know no ports: the name keeps two pages that are open at once apart.
  const name = `agentctl-open-${port}`
  const value = randomBytes(24).toString('base64url')
  let isSpent = false
  return {
    /** To be opened in a browser, once. */
    address: `http://127.0.0.1:${port}/?${PARAMETER}=${code}`,
    /** For programs: the cookie that a browser would get. */
    cookie: `${name}=${value}`,
    /** `known` may pass; `welcome` has shown the code, and gets the cookie; `stranger` is turned away. */
    judge: ({ headers, url }: Pick<IncomingMessage, 'headers' | 'url'>): 'known' | 'welcome' | 'stranger' => {
      const cookies = (headers.cookie ?? '').split(/; */)
      if (cookies.some((one) => isSame(one, `${name}=${value}`))) return 'known'
      const shown = new URL(url ?? '/', 'http://page').searchParams.get(PARAMETER)
      if (isSpent || shown === null || !isSame(shown, code)) return 'stranger'
      isSpent = true
      return 'welcome'
    },
    /** What a welcome visitor is answered: the cookie, and the page without the code in its address. */
    welcome: { 'set-cookie': `${name}=${value}; HttpOnly; SameSite=Strict; Path=/`, location: '/' },
  }
}

const PARAMETER = 'agentctl-open'

/** Hashed first: the comparison wants one length and takes one time. */
const isSame = (one: string, other: string): boolean =>
  timingSafeEqual(createHash('sha256').update(one).digest(), createHash('sha256').update(other).digest())
