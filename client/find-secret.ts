import { namesOfSecret } from '../shared/secret-names.ts'
import type { Environment } from './command.ts'

/** The value of a secret on this machine, under any of its names; an empty one counts as missing. */
export const findSecret = (name: string, environment: Environment): string | undefined =>
  namesOfSecret(name)
    .map((one) => environment[one])
    .find(Boolean)
