/** True for what `agentd pair --json` gives as spkiPin: the SHA-256 of the box's public key. */
export const isPin = (text: string): boolean => /^sha256\/\/[A-Za-z0-9+/]{43}=$/.test(text)

export const PIN_HINT =
  'It is the spkiPin that agentd pair --json prints on the box; agentd logs it at its start too.'
