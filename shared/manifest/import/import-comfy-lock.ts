import { z } from 'zod'
import { AgentError } from '../../contract/errors.ts'
import type { Imported, ImportedFile, LeftBehind } from './imported.ts'
import { folderOf, importSource, nameOfSource, notReadable } from './imported.ts'

/** What comfy-cli writes as comfy-lock.yaml; everything may be missing. */
const ComfyLock = z.object({
  models: z
    .array(
      z.object({
        model: z.string().nullish(),
        url: z.string().nullish(),
        type: z.string().nullish(),
        paths: z.array(z.object({ path: z.string() })).nullish(),
        hashes: z.array(z.object({ hash: z.string(), type: z.string() })).nullish(),
      }),
    )
    .nullish(),
  custom_nodes: z
    .object({
      comfyui: z.string().nullish(),
      git_custom_nodes: z
        .record(z.string(), z.object({ disabled: z.boolean().nullish(), hash: z.string().nullish() }))
        .nullish(),
      file_custom_nodes: z.array(z.object({ filename: z.string().nullish() })).nullish(),
    })
    .nullish(),
})

/** Reads a comfy-lock. @throws AgentError bad_request */
export const importComfyLock = (value: unknown): Imported => {
  const parsed = ComfyLock.safeParse(value)
  if (!parsed.success) throw notReadable('a comfy-lock', parsed.error)
  const { models, custom_nodes: custom } = parsed.data
  const leftBehind: LeftBehind[] = []
  const leave = (what: string, why: string): void => void leftBehind.push({ line: null, what, why })
  const files: ImportedFile[] = []
  for (const model of models ?? []) {
    const what = model.model ?? model.url ?? 'a model'
    try {
      files.push(...modelFiles(model))
    } catch (error) {
      if (!(error instanceof AgentError)) throw error
      leave(what, error.message)
    }
    for (const { type } of model.hashes ?? [])
      if (!/^sha256$/i.test(type)) leave(`${what}: its ${type}`, 'only sha256 is held against the bytes')
  }
  const nodes = Object.entries(custom?.git_custom_nodes ?? {}).flatMap(([git, { disabled, hash }]) => {
    if (disabled === true) {
      leave(git, 'it is disabled')
      return []
    }
    if (!hash) leave(git, 'it has no commit, so main is assumed: pin the commit that you want')
    return [{ git: git.replace(/\.git$/, ''), ref: hash || 'main' }]
  })
  if (custom?.comfyui) leave(`ComfyUI ${custom.comfyui}`, 'ComfyUI itself belongs into the image')
  for (const { filename } of custom?.file_custom_nodes ?? [])
    leave(filename ?? 'a custom node', 'custom nodes that are a single file have no address')
  const secrets = { required: [], optional: [] }
  return { files, snapshots: [], nodes, secrets, python: null, processes: {}, leftBehind }
}

const modelFiles = (model: NonNullable<z.infer<typeof ComfyLock>['models']>[number]): ImportedFile[] => {
  if (!model.url) throw new AgentError('bad_request', 'it has no url')
  const source = importSource(model.url)
  const sha256 = model.hashes?.find(
    ({ hash, type }) => /^sha256$/i.test(type) && /^[0-9a-f]{64}$/i.test(hash),
  )?.hash
  const places = (model.paths ?? []).map(({ path }) => path.replace(/^(\.\/)?(ComfyUI\/)?models\//, ''))
  const name = nameOfSource(source) ?? model.model ?? undefined
  if (places.length === 0 && name === undefined)
    throw new AgentError('bad_request', 'neither a path nor a file name is given')
  const folder = folderOf(model.type ?? undefined, source)
  const whole = places.length > 0 ? places : [folder === undefined ? (name ?? '') : `${folder}/${name ?? ''}`]
  return whole.map((to) => ({
    to,
    from: [source],
    ...(sha256 === undefined ? {} : { sha256: sha256.toLowerCase() }),
  }))
}
