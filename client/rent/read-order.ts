import { AgentError } from '../../shared/contract/errors.ts'
import { parseDuration, parseSize } from '../../shared/contract/units.ts'
import { listReferences } from '../../shared/manifest/resolve-manifest-secrets.ts'
import type { Manifest } from '../../shared/manifest/schema.ts'
import type { Renter } from '../../shared/providers/places.ts'
import type { Call } from '../command.ts'
import { flagOption, textOption } from '../command.ts'
import { USUAL_PREFIX } from '../context/install-agent.ts'
import type { Wanted } from './choose-offer.ts'
import { cudaOfImage } from './choose-offer.ts'
import { renterNamed } from './open-provider.ts'

/** What `up` was asked for: the manifest's `instance`, with the flags over it. */
export type Order = {
  readonly provider: Renter
  readonly image: string
  readonly interruptible: boolean
  readonly wanted: Omit<Wanted, 'downloadBytes'>
  readonly bootMs: number
  readonly context: string | undefined
  readonly prefix: string
  readonly release: string | undefined
  readonly mayAsk: boolean
  readonly keepsFailed: boolean
  /** Names of every secret that goes into the box, where this machine has it. */
  readonly secretNames: readonly string[]
}

/** What a machine is used for when its manifest does not say: a working day. */
const USUAL_HOURS = 8
const USUAL_DISK_BYTES = 50e9

/** @throws AgentError usage, not_supported */
export const readOrder = (manifest: Manifest, call: Call): Order => {
  const { instance, requires, budget } = manifest
  const image = textOption(call, 'image') ?? instance?.image
  if (image === undefined)
    throw new AgentError('usage', `${manifest.name} does not say which image to rent`, {
      hint: 'Write instance.image into the manifest, or give --image.',
    })
  const named = textOption(call, 'provider') ?? instance?.provider ?? 'vast'
  if (named === 'command')
    throw new AgentError('not_supported', 'a box of provider “command” is not rented by agentctl', {
      hint: 'Rent it yourself, then agentctl install TARGET.',
    })
  const gpu = textOption(call, 'gpu')
  const hours = budget?.max_hours ?? 0
  return {
    provider: renterNamed(named),
    image,
    interruptible: flagOption(call, 'interruptible') || instance?.interruptible === true,
    wanted: {
      gpus: gpu === undefined ? (instance?.gpu ?? []) : gpu.split(',').map((name) => name.trim()),
      gpuCount: instance?.count ?? 1,
      diskBytes: sizeOption(call, 'disk') ?? instance?.disk ?? requires.disk_free ?? USUAL_DISK_BYTES,
      maxUsdPerHour: priceOption(call) ?? instance?.max_price ?? null,
      minVramBytes: requires.gpu?.min_vram ?? null,
      minDriver: requires.gpu?.min_driver ?? null,
      minComputeCapability: requires.gpu?.min_compute_capability ?? null,
      minCuda: cudaOfImage(image),
      hours: hours > 0 ? hours : USUAL_HOURS,
    },
    bootMs: durationOption(call, 'boot-timeout', '20m'),
    context: textOption(call, 'name'),
    prefix: textOption(call, 'prefix') ?? USUAL_PREFIX,
    release: textOption(call, 'release'),
    mayAsk: !flagOption(call, 'yes'),
    keepsFailed: flagOption(call, 'keep'),
    secretNames: [
      ...new Set([
        ...manifest.secrets.required,
        ...manifest.secrets.optional,
        ...listReferences(manifest).map(({ name }) => name),
      ]),
    ],
  }
}

const optionKey = (name: string): string => name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())

const sizeOption = (call: Call, name: string): number | undefined => {
  const text = textOption(call, name)
  if (text === undefined) return undefined
  const bytes = parseSize(text)
  if (bytes !== undefined && bytes > 0) return bytes
  throw new AgentError('usage', `--${name}: ${text} is not a size`, { hint: 'Write 200GB.' })
}

const priceOption = (call: Call): number | undefined => {
  const text = textOption(call, 'maxPrice')
  if (text === undefined) return undefined
  const price = Number(text)
  if (Number.isFinite(price) && price > 0) return price
  throw new AgentError('usage', `--max-price: ${text} is not a price`, {
    hint: 'Write US dollars an hour: 0.60.',
  })
}

/** Milliseconds of an option that is a duration. @throws AgentError usage */
export const durationOption = (call: Call, name: string, usual: string): number => {
  const text = textOption(call, optionKey(name)) ?? usual
  const ms = parseDuration(text)
  if (ms !== undefined && ms > 0) return ms
  throw new AgentError('usage', `--${name}: ${text} is not a duration`, { hint: 'Write 90s, 20m or 1h.' })
}
