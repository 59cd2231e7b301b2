import type { Document, Node, Pair } from 'yaml'
import { isAlias, isMap, isNode, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import type { ManifestPath } from './places.ts'
import type { Position, YamlProblem } from './yaml-text.ts'
import { explainYaml, TOO_DEEP } from './yaml-text.ts'

export type YamlValue = {
  readonly value: unknown
  readonly problems: readonly YamlProblem[]
  /**
   * Where a value stands: a plain value itself, a map or a list at its key, an item at its start; for what is absent,
   * the nearest thing that should hold it.
   */
  at(path: ManifestPath): Position
  /** Where the key of an entry stands. */
  atKey(path: ManifestPath): Position
}

/** A manifest is six levels deep. */
const MAX_DEPTH = 32
/** Aliases repeat what an anchor holds: nine times nine times nine … would fill the memory. */
const MAX_REPEATED = 10_000

/** Reads one YAML 1.2 document (core schema) into plain data. Never throws: what is wrong is in `problems`. */
export const readYaml = (text: string): YamlValue => {
  const lines = new LineCounter()
  // The package compares each key with every other (minutes for a large file): the check is made here, in one pass.
  const document = parseDocument(text, {
    version: '1.2',
    schema: 'core',
    merge: false,
    uniqueKeys: false,
    prettyErrors: false,
    lineCounter: lines,
  })
  const position = (offset: number): Position => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const { value, problems, targets } = toPlainData(document)
  return {
    value,
    problems: [
      ...[...document.errors, ...document.warnings].map((error) => ({
        ...position(error.pos[0]),
        ...explainYaml(error.code, error.message),
      })),
      ...problems.map(({ node, ...words }) => ({ ...position(node.range?.[0] ?? 0), ...words })),
    ],
    at: (path) => position(findOffset(document.contents, path, targets)),
    atKey: (path) => position(findOffset(document.contents, path, targets, true)),
  }
}

type Found = { readonly node: Node; readonly message: string; readonly hint: string }

const toPlainData = (
  document: Document,
): { value: unknown; problems: readonly Found[]; targets: ReadonlyMap<Node, Node> } => {
  const problems: Found[] = []
  const anchors = new Map<string, Node>()
  const targets = new Map<Node, Node>()
  let repeated = 0

  const visit = (node: unknown, depth: number, open: readonly Node[]): unknown => {
    if (!isNode(node)) return null
    if (open.length > 0 && (repeated += 1) > MAX_REPEATED) return null
    if (depth > MAX_DEPTH) {
      problems.push({ node, ...TOO_DEEP })
      return null
    }
    if (isAlias(node)) return follow(node, node.source, { depth, open })
    if (node.anchor !== undefined) anchors.set(node.anchor, node)
    if (isSeq(node)) return node.items.map((item) => visit(item, depth + 1, open))
    if (isMap(node)) return Object.fromEntries(entries(node.items, depth, open))
    return isScalar(node) ? node.value : null
  }

  const follow = (node: Node, name: string, at: { depth: number; open: readonly Node[] }): unknown => {
    const target = anchors.get(name)
    const refuse = (message: string, hint: string): null => {
      problems.push({ node, message, hint })
      return null
    }
    if (target === undefined)
      return refuse(`the alias “*${name}” has no anchor before it`, 'If this is text, put it in quotes.')
    if (at.open.includes(target) || holds(target, node))
      return refuse(`the alias “*${name}” holds itself`, 'Write the value out.')
    targets.set(node, target)
    const wasEnough = repeated > MAX_REPEATED
    const value = visit(target, at.depth, [...at.open, target])
    if (repeated <= MAX_REPEATED || wasEnough) return value
    return refuse('the aliases repeat too much', 'Write the values out, without anchors and aliases.')
  }

  const entries = (
    items: readonly Pair[],
    depth: number,
    open: readonly Node[],
  ): (readonly [string, unknown])[] => {
    const seen = new Set<string>()
    const result: (readonly [string, unknown])[] = []
    for (const { key, value } of items) {
      const name = keyText(key)
      if (name === undefined || name === '__proto__') {
        if (isNode(key))
          problems.push({ node: key, message: 'a key must be plain text', hint: 'Write “key: value”.' })
      } else if (seen.has(name)) {
        if (isNode(key) && open.length === 0)
          problems.push({
            node: key,
            message: `the key “${name.slice(0, 60)}” is written twice`,
            hint: 'Keep one of the two.',
          })
      } else {
        seen.add(name)
        result.push([name, visit(value, depth + 1, open)])
      }
    }
    return result
  }

  return { value: visit(document.contents, 0, []), problems, targets }
}

const keyText = (key: unknown): string | undefined =>
  isScalar(key) && (typeof key.value === 'string' || typeof key.value === 'number')
    ? String(key.value)
    : undefined

/** An anchor that is still open around its alias: `&a [*a]`. */
const holds = (outer: Node, inner: Node): boolean =>
  outer.range != null &&
  inner.range != null &&
  outer.range[0] <= inner.range[0] &&
  inner.range[1] <= outer.range[1]

const findOffset = (
  root: unknown,
  path: ManifestPath,
  targets: ReadonlyMap<Node, Node>,
  keyWanted = false,
): number => {
  let node: unknown = root
  let offset = isNode(root) ? (root.range?.[0] ?? 0) : 0
  for (const [index, part] of path.entries()) {
    const holder = isNode(node) ? (targets.get(node) ?? node) : undefined
    if (isMap(holder)) {
      const pair = holder.items.find((item) => keyText(item.key) === String(part))
      if (pair === undefined) return offset
      node = pair.value
      const last = index === path.length - 1
      const plain = isScalar(node) && node.value !== null && !(last && keyWanted)
      offset = (plain ? startOf(node) : startOf(pair.key)) ?? offset
    } else if (isSeq(holder)) {
      node = holder.items[Number(part)]
      offset = startOf(node) ?? offset
    } else return offset
  }
  return offset
}

const startOf = (node: unknown): number | undefined => (isNode(node) ? node.range?.[0] : undefined)
