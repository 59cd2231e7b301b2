import { posix } from 'node:path'
import { z } from 'zod'
import { nearestKey } from './nearest-key.ts'
import type { ManifestPath } from './places.ts'
import type { Finding } from './schema-problems.ts'

/**
 * What a schema cannot see: names that point nowhere, circles, and two things that want one place. It reads what it
 * can of a manifest with other mistakes in it, so that everything is reported at once.
 */
export const checkReferences = (value: unknown): readonly Finding[] => {
  const loose = Loose.parse(value)
  return [...checkDownloads(loose), ...checkNodes(loose), ...checkProcesses(loose), ...checkSync(loose)]
}

const text = z.string().optional().catch(undefined)
const texts = z.array(z.string().catch('')).catch([])
const listOf = <T extends z.ZodType>(item: T) => z.array(item).catch([])

/** The parts that are looked at, as far as they have the right form. */
const Loose = z
  .object({
    models_root: text,
    downloads: listOf(
      z
        .object({ to: text, snapshot: text, from: texts, race: z.unknown().optional() })
        .catch({ to: undefined, snapshot: undefined, from: [], race: false }),
    ),
    custom_nodes: listOf(z.object({ git: text }).catch({ git: undefined })),
    processes: z
      .record(
        z.string(),
        z
          .object({
            kind: text,
            port: z.number().optional().catch(undefined),
            depends_on: texts,
            ready: z
              .object({ port: z.number().optional().catch(undefined) })
              .optional()
              .catch(undefined),
          })
          .catch({ kind: undefined, port: undefined, depends_on: [], ready: undefined }),
      )
      .catch({}),
    remotes: z.record(z.string(), z.unknown()).catch({}),
    sync: listOf(
      z
        .object({ name: text, path: text, to: text })
        .catch({ name: undefined, path: undefined, to: undefined }),
    ),
  })
  .catch({ models_root: undefined, downloads: [], custom_nodes: [], processes: {}, remotes: {}, sync: [] })
type Loose = z.infer<typeof Loose>

const finding = (path: ManifestPath, message: string, hint: string): Finding => ({
  code: 'invalid_manifest',
  path,
  message,
  hint,
})

const checkDownloads = ({ downloads, models_root }: Loose): Finding[] => {
  const findings: Finding[] = []
  const places = new Map<string, number>()
  for (const [index, download] of downloads.entries()) {
    const { to, snapshot, from } = download
    if (to !== undefined && models_root === undefined && !/^(\/|\$\{)/.test(to))
      findings.push(
        finding(
          ['downloads', index, 'to'],
          `the destination “${to}” is relative, but there is no models_root`,
          'Add models_root, or write an absolute path.',
        ),
      )
    if (download.race === true && from.length === 1)
      findings.push(
        finding(
          ['downloads', index, 'race'],
          `“${to ?? ''}” has race: true, but one source`,
          'Add a second source under from, or take race out.',
        ),
      )
    const place = to === undefined ? snapshot : posix.resolve(models_root ?? '/', to)
    if (place === undefined) continue
    const key = to === undefined ? 'snapshot' : 'to'
    const first = places.get(place)
    if (first !== undefined)
      findings.push({
        ...finding(
          ['downloads', index, key],
          `“${to ?? place}” is downloaded twice, here and by downloads[${first}]`,
          to === undefined
            ? 'Put both include lists into one entry.'
            : 'Keep one entry; further sources go under its from.',
        ),
        code: 'destination_invalid',
      })
    else places.set(place, index)
  }
  for (const [place, index] of places)
    for (let folder = posix.dirname(place); folder.length > 1; folder = posix.dirname(folder)) {
      const other = places.get(folder)
      if (other === undefined || downloads[index]?.to === undefined) continue
      findings.push({
        ...finding(
          ['downloads', index, 'to'],
          `“${downloads[index].to}” lies in “${downloads[other]?.to ?? folder}”, which is a file`,
          'Choose another destination for one of them.',
        ),
        code: 'destination_invalid',
      })
      break
    }
  return findings
}

const checkNodes = ({ custom_nodes }: Loose): Finding[] => {
  const folders = new Map<string, number>()
  return custom_nodes.flatMap(({ git }, index) => {
    const folder = git === undefined ? '' : posix.basename(git).replace(/\.git$/, '')
    const first = folders.get(folder)
    if (folder === '') return []
    if (first === undefined) {
      folders.set(folder, index)
      return []
    }
    return [
      finding(
        ['custom_nodes', index, 'git'],
        `the custom node “${folder}” is there twice, here and as custom_nodes[${first}]`,
        'Keep one of the two.',
      ),
    ]
  })
}

const checkProcesses = ({ processes }: Loose): Finding[] => {
  const findings: Finding[] = []
  const names = Object.keys(processes)
  const ports = new Map<number, string>()
  for (const [name, process] of Object.entries(processes)) {
    const port = process.port ?? (process.kind === 'comfyui' ? 8188 : process.ready?.port)
    const other = port === undefined ? undefined : ports.get(port)
    if (port !== undefined && other !== undefined)
      findings.push(
        finding(
          ['processes', name, 'port'],
          `the processes “${other}” and “${name}” both want port ${port}`,
          'Give one of them another port.',
        ),
      )
    else if (port !== undefined) ports.set(port, name)
    for (const [index, wanted] of process.depends_on.entries())
      if (wanted !== '' && !names.includes(wanted))
        findings.push(
          unknownName(['processes', name, 'depends_on', index], wanted, { what: 'process', names }),
        )
  }
  return [...findings, ...findCircles(processes)]
}

/** Each circle of depends_on once, reported at the process that closes it. */
const findCircles = (processes: Loose['processes']): Finding[] => {
  const findings: Finding[] = []
  const finished = new Set<string>()
  const visit = (name: string, way: readonly string[]): void => {
    const start = way.indexOf(name)
    const last = way.at(-1)
    if (start !== -1 && last !== undefined) {
      const circle = [...way.slice(start), name].map((one) => `“${one}”`).join(' → ')
      const message =
        way.length - start === 1
          ? `the process ${circle.split(' ')[0] ?? ''} waits for itself`
          : `the processes ${circle} wait for each other`
      findings.push(finding(['processes', last, 'depends_on'], message, 'Take one of these depends_on out.'))
      return
    }
    if (finished.has(name)) return
    for (const wanted of processes[name]?.depends_on ?? [])
      if (Object.hasOwn(processes, wanted)) visit(wanted, [...way, name])
    finished.add(name)
  }
  for (const name of Object.keys(processes)) visit(name, [])
  return findings
}

const checkSync = ({ sync, remotes }: Loose): Finding[] => {
  const findings: Finding[] = []
  const seen = new Map<string, number>()
  const names = Object.keys(remotes)
  for (const [index, { name, path, to }] of sync.entries()) {
    const first = name === undefined ? undefined : seen.get(name)
    if (name !== undefined && first !== undefined)
      findings.push(
        finding(
          ['sync', index, 'name'],
          `the sync “${name}” is there twice, here and as sync[${first}]`,
          'Give one of them another name.',
        ),
      )
    else if (name !== undefined) seen.set(name, index)
    const remote = /^([A-Za-z0-9_-]+):/.exec(to ?? '')?.[1]
    if (remote !== undefined && !names.includes(remote))
      findings.push(unknownName(['sync', index, 'to'], remote, { what: 'remote', names }))
    if (
      path?.startsWith('/') &&
      to?.startsWith('/') &&
      `${posix.resolve(to)}/`.startsWith(`${posix.resolve(path)}/`)
    )
      findings.push(
        finding(
          ['sync', index, 'to'],
          `“${to}” lies in “${path}”, so the copy would be copied again`,
          'Choose a place outside of path.',
        ),
      )
  }
  return findings
}

const unknownName = (
  path: ManifestPath,
  name: string,
  known: { readonly what: string; readonly names: readonly string[] },
): Finding => {
  const meant = nearestKey(name, known.names)
  const there =
    known.names.length === 0
      ? `Declare it: no ${known.what} is`
      : `There ${known.names.length === 1 ? 'is' : 'are'}: ${known.names.join(', ')}`
  return finding(
    path,
    `there is no ${known.what} “${name}”`,
    meant === undefined ? `${there}.` : `Did you mean “${meant}”?`,
  )
}
