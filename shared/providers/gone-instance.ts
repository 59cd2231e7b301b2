import type { Instance } from './provider.ts'

/** An instance of which nothing is left. */
export const goneInstance = (id: string, provider: Instance['provider']): Instance => ({
  id,
  provider,
  label: null,
  state: 'gone',
  message: null,
  gpu: null,
  gpuCount: null,
  usdPerHour: 0,
  since: null,
  ssh: null,
})
