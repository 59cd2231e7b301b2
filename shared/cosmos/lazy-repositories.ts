import { basename } from 'node:path'

/*
 * Cosmos fetches most of what it needs only when it comes to it, from repositories that its user never named: a run
 * once stopped after an hour because of a tokenizer in a second, gated repository. So what each version is known to
 * fetch is listed here, and its access is checked before anything starts.
 *
 * 2.5: cosmos_predict2 and cosmos_transfer2, their checkpoint_db.py and config.py. 3: docs/inference.md, docs/setup.md.
 */

/** A repository on Hugging Face that a program fetches from by itself. */
export type LazyRepository = {
  readonly repo: string
  /** The one file of it that is needed; null: much of it. */
  readonly path: string | null
  /** `as its text encoder`: completes “… fetches it”. */
  readonly purpose: string
}

/** The part of a process that decides what Cosmos fetches. */
export type CosmosCommand = {
  readonly command: readonly string[]
  /** Its last part tells predict from transfer, whose scripts have one name. */
  readonly working_dir: string
  readonly guardrails: boolean
}

type CosmosVersion = 'predict2.5' | 'transfer2.5' | '3' | '3-vllm'

/** What a Cosmos command fetches by itself, as far as its version can be told from it; nothing for other programs. Pure. */
export const lazyRepositories = (cosmos: CosmosCommand): readonly LazyRepository[] => {
  const version = cosmosVersion(cosmos)
  if (version === undefined) return []
  const { command } = cosmos
  const guarded = cosmos.guardrails || command.some((arg) => GUARDRAILS_ON.includes(arg))
  return [...MODELS[version](command), ...(guarded ? GUARDRAILS[version] : [])]
}

const GUARDRAILS_ON = ['--guardrails', '--no-disable-guardrails']

const whole = (repo: string, purpose: string): LazyRepository => ({ repo, path: null, purpose })

const TEXT_ENCODER = whole('nvidia/Cosmos-Reason1-7B', 'as its text encoder')
const GUARDRAIL_MODELS = [
  whole('nvidia/Cosmos-Guardrail1', 'for its guardrails'),
  whole('Qwen/Qwen3Guard-Gen-0.6B', 'for its guardrails'),
]
/** Part of the guardrail that looks at the frames of a video. */
const FRAME_ENCODER = whole('google/siglip-so400m-patch14-384', 'for its guardrails')

const GUARDRAILS: Readonly<Record<CosmosVersion, readonly LazyRepository[]>> = {
  'predict2.5': [...GUARDRAIL_MODELS, FRAME_ENCODER],
  'transfer2.5': [...GUARDRAIL_MODELS, FRAME_ENCODER],
  '3': GUARDRAIL_MODELS,
  // vLLM-Omni wants the guardrails of an earlier Cosmos, and only those.
  '3-vllm': [whole('nvidia/Cosmos-1.0-Guardrail', 'for its guardrails')],
}

const MODELS: Readonly<Record<CosmosVersion, (command: readonly string[]) => readonly LazyRepository[]>> = {
  'predict2.5': (command) => {
    const size = optionOf(command, '--model')?.startsWith('14B') ? '14B' : '2B'
    const model = whole(`nvidia/Cosmos-Predict2.5-${size}`, 'as its model')
    const tokenizer = { ...PREDICT_TOKENIZER, purpose: 'for its tokenizer' }
    if (isLocal(optionOf(command, '--checkpoint-path'))) return [tokenizer, TEXT_ENCODER]
    return size === '2B' ? [model, TEXT_ENCODER] : [model, tokenizer, TEXT_ENCODER]
  },
  'transfer2.5': (command) => [
    ...(isLocal(optionOf(command, '--checkpoint-path'))
      ? []
      : [whole('nvidia/Cosmos-Transfer2.5-2B', 'as its model')]),
    PREDICT_TOKENIZER,
    TEXT_ENCODER,
  ],
  '3': (command) => {
    const checkpoint = optionOf(command, '--checkpoint-path')
    const named = /^(?:nvidia\/)?(Cosmos3-[A-Za-z0-9-]+)$/.exec(checkpoint ?? '')?.[1]
    return named === undefined ? [] : [whole(`nvidia/${named}`, 'as its model')]
  },
  '3-vllm': (command) => {
    const named = command.find((arg) => /^nvidia\/Cosmos3-[A-Za-z0-9-]+$/.test(arg))
    return named === undefined ? [] : [whole(named, 'as its model')]
  },
}

/** Transfer reads it too: the second repository behind the incident above. */
const PREDICT_TOKENIZER: LazyRepository = {
  repo: 'nvidia/Cosmos-Predict2.5-2B',
  path: 'tokenizer.pth',
  purpose: 'for its tokenizer',
}

const cosmosVersion = ({ command, working_dir: folder }: CosmosCommand): CosmosVersion | undefined => {
  if (command.some((arg) => /\bcosmos_framework[./]scripts[./]inference\b/.test(arg))) return '3'
  if (command.some((arg) => basename(arg) === 'vllm') && command.some((arg) => arg.includes('Cosmos3-')))
    return '3-vllm'
  const script = command.find((arg) => /(^|\/)examples\/\w+\.py$/.test(arg))
  if (script === undefined) return undefined
  const place = `${basename(folder)} ${script}`
  if (/transfer/i.test(place)) return 'transfer2.5'
  return /predict/i.test(place) ? 'predict2.5' : undefined
}

/** The value of `--name value` or `--name=value`. */
const optionOf = (command: readonly string[], name: string): string | undefined => {
  const at = command.findIndex((arg) => arg === name || arg.startsWith(`${name}=`))
  const found = command[at]
  if (found === undefined) return undefined
  return found === name ? command[at + 1] : found.slice(name.length + 1)
}

const isLocal = (checkpoint: string | undefined): boolean => /^[./~]/.test(checkpoint ?? '')
