/*
 * What a secret looks like. A manifest is kept in git, sent over the wire and shown in messages, so a literal secret in
 * it is an error, and no message ever quotes one.
 */

/** Keys and tokens of well-known services, as their issuers shape them. */
export const TOKEN_SHAPES: readonly RegExp[] = [
  /\bhf_[A-Za-z0-9]{16,}/,
  /\bgh[pousr]_[A-Za-z0-9]{20,}/,
  /\bgithub_pat_\w{20,}/,
  /\bglpat-[\w-]{16,}/,
  /\bxox[abprs]-[\w-]{10,}/,
  /\bsk-[\w-]{20,}/,
  /\bA(?:KIA|SIA)[A-Z0-9]{16}\b/,
]

const TOKENS: readonly RegExp[] = [
  ...TOKEN_SHAPES,
  /-----BEGIN [A-Z ]*PRIVATE KEY[^]*/,
  /\bhooks\.slack\.com\/services\/\w[\w/]*/,
  /\bdiscord(?:app)?\.com\/api\/webhooks\/\d[\w/-]*/,
  /^[a-z]+:\/\/[^\s/@]*:[^\s/@]+@/,
  /[?&](?:token|access_token|api_?key|key|password|secret|sig|signature|x-amz-signature)=(?!\$\{)[^&\s]+/i,
]

/** A token, a key or an address with a password in it. */
export const looksSecret = (text: string): boolean => TOKENS.some((token) => token.test(text))

/** A text without what looks like a secret in it, short enough for a message. */
export const hideSecrets = (text: string): string => {
  const clean = TOKENS.reduce((rest, token) => rest.replace(token, '…'), text)
  // One of each kind was taken out; a text with more of them is not worth saving.
  return looksSecret(clean) ? '…' : clean.length > 300 ? `${clean.slice(0, 297)}…` : clean
}

/** Options of rclone backends that hold a secret: key, pass, token, secret_access_key, client_secret … */
export const isSecretOption = (option: string): boolean =>
  /(?:^|_)(?:key|pass|pass2|password|token|secret|credentials|bearer|sas_url|key_pem)$/.test(option) &&
  !/^(?:public|kms)_key$/.test(option)

/** Variables that hold a secret by their name: WANDB_API_KEY, DB_PASSWORD … */
export const isSecretVariable = (variable: string): boolean =>
  /(?:^|_)(?:TOKEN|SECRET|PASSWORD|API_?KEY|SECRET_KEY|ACCESS_KEY|PRIVATE_KEY)$/i.test(variable)

/** “value”, short enough for a message; never a secret. */
export const quote = (value: unknown): string => {
  if (typeof value !== 'string') return `“${String(value)}”`
  if (looksSecret(value)) return '“…”'
  return value.length > 60 ? `“${value.slice(0, 57)}…”` : `“${value}”`
}
