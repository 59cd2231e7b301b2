/*
 * PIP_TARGET, PIP_NO_DEPS, PIP_UPGRADE, PYTHONPATH and their like silently change what an install does, so nothing is
 * inherited. What says where packages come from must work, though: a machine behind a mirror has no other index.
 */

/** Settings of pip that say where packages come from and how they are reached, as the keys of pip.conf. */
export const INDEX_SETTINGS = [
  'index-url',
  'extra-index-url',
  'find-links',
  'no-index',
  'trusted-host',
  'cert',
  'client-cert',
  'proxy',
  'timeout',
  'default-timeout',
  'retries',
  'cache-dir',
] as const

/** Variables any program needs to find its files and the network. */
const MACHINE = [
  'PATH',
  'HOME',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'XDG_CONFIG_HOME',
  'XDG_CACHE_HOME',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'ALL_PROXY',
  'NO_PROXY',
  'http_proxy',
  'https_proxy',
  'all_proxy',
  'no_proxy',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'REQUESTS_CA_BUNDLE',
  'CURL_CA_BUNDLE',
  'GIT_SSL_CAINFO',
]

type Variables = Readonly<Record<string, string | undefined>>

/** `index-url` → `PIP_INDEX_URL`. */
export const pipVariable = (setting: string): string => `PIP_${setting.toUpperCase().replaceAll('-', '_')}`

/** The environment of every Python the agent starts: the allow-list and nothing else. */
export const cleanEnvironment = (environment: Variables): Readonly<Record<string, string>> => ({
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  ...pick(environment, MACHINE),
  LC_ALL: 'C.UTF-8',
  PYTHONNOUSERSITE: '1',
})

/** The index settings that the agent was started with (`PIP_INDEX_URL` and the like). */
export const indexEnvironment = (environment: Variables): Readonly<Record<string, string>> =>
  pick(environment, INDEX_SETTINGS.map(pipVariable))

const pick = (environment: Variables, names: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    names.flatMap((name) => {
      const value = environment[name]
      return value === undefined || value === '' ? [] : [[name, value]]
    }),
  )
