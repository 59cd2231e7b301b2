import { hostname } from 'node:os'
import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { Scope } from '../../shared/contract/states.ts'
import { SCOPES } from '../../shared/contract/states.ts'
import { parseDuration } from '../../shared/contract/units.ts'
import type { Call, Command } from '../command.ts'
import { argument, flagOption, textOption } from '../command.ts'
import { timeText } from '../output/rows.ts'

export const tokenLs: Command = {
  name: 'token ls',
  group: 'Access',
  summary: 'the tokens of the box, without their texts',
  example: 'agentctl token ls',
  run: async (call) => {
    const answer = await (await call.api()).tokens()
    if (call.output.json) call.output.document(answer)
    call.output.table(
      ['ID', 'NAME', 'SCOPE', 'CREATED', 'LAST USED', 'EXPIRES'],
      answer.tokens.map((token) => [
        token.id,
        token.name,
        token.scope,
        timeText(token.createdAt),
        timeText(token.lastUsedAt),
        token.expiresAt === null ? 'never' : timeText(token.expiresAt),
      ]),
    )
    return EXIT.done
  },
}

/** @throws AgentError usage when it is given twice and differs */
const nameOf = (call: Call): string => {
  const [first] = call.args
  const second = textOption(call, 'name')
  if (first !== undefined && second !== undefined && first !== second)
    throw new AgentError('usage', `the token cannot be called ${first} and ${second}`, {
      hint: 'Give its name once.',
    })
  return first ?? second ?? hostname()
}

export const tokenCreate: Command = {
  name: 'token create',
  group: 'Access',
  summary: 'make a token; it is shown this once',
  example: 'agentctl token create ci --scope operate --expires 30d',
  arguments: [{ name: 'name', summary: 'who or what will use it', optional: true }],
  options: [
    { flags: '--name <name>', summary: 'the same, as agentd pair takes it; by default this machine' },
    { flags: '--scope <scope>', summary: 'read (the default), operate or admin' },
    { flags: '--expires <age>', summary: 'until when it counts, like 30d or 12h; for ever by default' },
    { flags: '--offline', summary: 'for a box that is yet to be made: prints what to create it with' },
  ],
  run: async (call) => {
    const name = nameOf(call)
    const asked = textOption(call, 'scope') ?? 'read'
    const scope = SCOPES.find((one) => one === asked)
    if (scope === undefined)
      throw new AgentError('usage', `--scope: ${asked} is not a scope`, {
        hint: 'Write read, operate or admin.',
      })
    const expiresAt = expiry(textOption(call, 'expires'))
    if (flagOption(call, 'offline')) return await makeOffline({ name, scope, expiresAt }, call)
    const { tls, ...token } = await (await call.api()).createToken({ name, scope, expiresAt })
    if (call.output.json) call.output.document({ token, tls })
    const until = expiresAt === null ? '' : ` until ${timeText(expiresAt)}`
    call.output.note(`token ${token.id} (${token.scope})${until} for ${token.name}; it is shown this once`)
    if (tls !== null) call.output.note(`over https it needs --pin ${tls.spkiPin}`)
    call.output.line(token.token)
    return EXIT.done
  },
}

/** @throws AgentError usage */
const expiry = (age: string | undefined): string | null => {
  if (age === undefined) return null
  const ms = parseDuration(age)
  if (ms === undefined || ms <= 0 || ms > LONGEST_MS)
    throw new AgentError('usage', `--expires: ${age} is not an age`, { hint: 'Write 30d, 12h or 90m.' })
  return new Date(Date.now() + ms).toISOString()
}

/** Ten years; more is “for ever”. */
const LONGEST_MS = 10 * 365 * 864e5

/** A token whose box knows only its hash, and knows it from its first moment. */
const makeOffline = async (
  asked: { readonly name: string; readonly scope: Scope; readonly expiresAt: string | null },
  call: Call,
): Promise<number> => {
  const { createHash, randomBytes } = await import('node:crypto')
  const { name, scope, expiresAt } = asked
  if (expiresAt !== null)
    throw new AgentError('usage', '--offline has no --expires', { hint: 'Revoke it when it is not needed.' })
  const id = randomBytes(6).toString('hex')
  const secret = randomBytes(32).toString('base64url')
  const hash = `${id}:${createHash('sha256').update(secret).digest('hex')}:${scope}`
  if (call.output.json) call.output.document({ token: { id, name, scope, token: `${id}.${secret}`, hash } })
  call.output.note(`create the box with AGENT_TOKEN_HASH=${hash}`)
  call.output.note(`the token for ${name} follows; it is shown this once`)
  call.output.line(`${id}.${secret}`)
  return EXIT.done
}

export const tokenRevoke: Command = {
  name: 'token revoke',
  group: 'Access',
  summary: 'make a token worthless, at once',
  example: 'agentctl token revoke ID',
  arguments: [{ name: 'id', summary: 'its id; agentctl token ls lists them', names: 'tokens' }],
  run: async (call) => {
    const answer = await (await call.api()).revokeToken(argument(call, 0))
    if (call.output.json) call.output.document(answer)
    call.output.line(`revoked ${answer.revoked}`)
    return EXIT.done
  },
}
