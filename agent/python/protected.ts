import type { Dist, PythonFacts } from './inspect-python.ts'
import { canonicalName } from './inspect-python.ts'

/*
 * What an install must leave as it is: an image's torch is built for its CUDA, and everything linked to it for that
 * very torch. A dist that moves takes the whole environment with it, hours later, as “undefined symbol”.
 */

/** Known to hold native code for one torch, one CUDA or one numpy, or to be the tools of the install itself. */
const SEEDS: readonly RegExp[] = [
  /^(torch|torchvision|torchaudio|torchtext|torchao|torchsde|pytorch-triton(-rocm)?|triton)$/,
  /^(xformers|flash-attn|sageattention|bitsandbytes|vllm|natten|apex|onnxruntime-gpu)$/,
  /^(transformer-engine|nvidia-|cuda-).*/,
  /^(numpy|pip|setuptools|wheel)$/,
]

/** Canonical name → the exact version that has to stay. */
export type ProtectedDists = ReadonlyMap<string, string>

/**
 * The protected dists of a Python: known names that are installed, what torch pins exactly (and what that pins), what
 * is linked to torch or CUDA, and the manifest's `protect`.
 */
export const protectedDists = (
  python: Pick<PythonFacts, 'dists'> & { readonly pins: Readonly<Record<string, readonly string[]>> },
  also: { readonly protect: readonly string[]; readonly coupled: readonly string[] },
): ProtectedDists => {
  const installed = new Map(python.dists.map((dist) => [canonicalName(dist.name), dist]))
  const names = new Set([...installed.keys()].filter((name) => SEEDS.some((seed) => seed.test(name))))
  for (const name of [...also.protect, ...also.coupled]) names.add(canonicalName(name.trim()))
  const open = ['torch']
  for (let name = open.pop(); name !== undefined; name = open.pop())
    for (const pinned of python.pins[name] ?? [])
      if (!names.has(pinned)) {
        names.add(pinned)
        open.push(pinned)
      }
  return new Map(
    [...names].sort().flatMap((name): [string, string][] => {
      const dist: Dist | undefined = installed.get(name)
      return dist === undefined ? [] : [[name, dist.version]]
    }),
  )
}

/**
 * The lines that keep pip and uv off the protected dists. `===`, because `==2.9.1` also accepts 2.9.1+cu128 and pip
 * then changes the CUDA build. Lines of the machine's own constraints follow, but for protected names.
 */
export const constraintLines = (
  protectedSet: ProtectedDists,
  existing: readonly string[],
): readonly string[] => [
  ...[...protectedSet].map(([name, version]) => `${name}===${version}`),
  ...existing.filter((line) => {
    const name = /^([A-Za-z0-9][\w.-]*)/.exec(line)?.[1]
    return name !== undefined && !protectedSet.has(canonicalName(name))
  }),
]
