import type { ErrorCode, Problem } from '../../shared/contract/errors.ts'

/** What passes without anybody doing anything. */
const WEATHER: readonly ErrorCode[] = [
  'source_unavailable',
  'rate_limited',
  'remote_unreachable',
  'provider_failed',
  'unreachable',
  'deadline',
]

/** True when a run failed for nothing else: without a change of anything it may succeed later. */
export const isOnlyWeather = (problems: readonly Problem[]): boolean => {
  const errors = problems.filter(({ severity }) => severity === 'error')
  return errors.length > 0 && errors.every(({ code }) => WEATHER.includes(code))
}
