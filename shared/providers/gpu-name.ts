/** `NVIDIA GeForce RTX 4090`, `RTX_4090` and `rtx 4090` are one GPU. */
export const isSameGpu = (one: string, other: string): boolean => bareName(one) === bareName(other)

const bareName = (name: string): string =>
  name
    .toLowerCase()
    .replace(/\b(nvidia|geforce|amd|instinct)\b/g, '')
    .replace(/[\s_-]+/g, '')
