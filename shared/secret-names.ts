/** One secret under several names: whoever sets one of them means all. */
export const SECRET_ALIASES: readonly (readonly string[])[] = [
  ['HF_TOKEN', 'HUGGINGFACE_HUB_TOKEN', 'HUGGING_FACE_HUB_TOKEN'],
  ['CIVITAI_TOKEN', 'CIVITAI_API_KEY'],
]

/** Every name that a secret goes by, the one that was asked for first. */
export const namesOfSecret = (name: string): readonly string[] => [
  name,
  ...(SECRET_ALIASES.find((group) => group.includes(name)) ?? []),
]
