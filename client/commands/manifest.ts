import { EXIT } from '../../shared/contract/errors.ts'
import type { Command } from '../command.ts'
import { argument } from '../command.ts'
import { readManifestText } from '../manifest-text.ts'
import { green } from '../output/text.ts'

export const manifestCheck: Command = {
  name: 'manifest check',
  group: 'Manifests and runs',
  summary: 'every mistake in a manifest, with its line; needs no box',
  arguments: [{ name: 'file', summary: 'the manifest' }],
  run: async (call) => {
    const { manifest: text, file } = await readManifestText(argument(call, 0))
    const { parseManifest } = await import('../../shared/manifest/parse-manifest.ts')
    const { manifest, digest } = parseManifest(text, { file })
    if (call.output.json) call.output.document({ manifest: { name: manifest.name, digest }, problems: [] })
    call.output.line(green('ok'), ` ${file}: ${manifest.name}`)
    return EXIT.done
  },
}

export const manifestSchema: Command = {
  name: 'manifest schema',
  group: 'Manifests and runs',
  summary: 'the JSON Schema of a manifest, for completion in editors',
  run: async (call) => {
    const { manifestJsonSchema } = await import('../../shared/manifest/json-schema.ts')
    await call.output.raw(`${JSON.stringify(manifestJsonSchema(), undefined, call.output.json ? 0 : 2)}\n`)
    return EXIT.done
  },
}
