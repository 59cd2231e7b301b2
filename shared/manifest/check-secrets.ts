import { findReferences } from './interpolate.ts'
import type { ManifestPath } from './places.ts'
import { INTERPOLATED, isPlace, LEFT_AS_WRITTEN, mapStrings, pathText } from './places.ts'
import type { Finding } from './schema-problems.ts'
import { isSecretOption, isSecretVariable, looksSecret } from './secret-patterns.ts'

/** Secrets that are written out, and `${NAME}` where nothing would replace it. No message quotes a value. */
export const checkSecrets = (value: unknown): readonly Finding[] => {
  const findings: Finding[] = []
  mapStrings(value, (text, path) => {
    if (isWrittenOut(text, path))
      findings.push({
        code: 'secret_in_manifest',
        path,
        message: `${pathText(path)} holds a secret`,
        hint: isPlace(path, INTERPOLATED)
          ? 'Name the secret under secrets and write "${NAME}" here.'
          : 'Take it out, make it invalid where it came from, and name a new one under secrets.',
      })
    else findings.push(...checkReferencesOf(text, path))
    return text
  })
  return findings
}

const isWrittenOut = (text: string, path: ManifestPath): boolean => {
  if (looksSecret(text)) return true
  const name = String(path.at(-1))
  if (text.length < 4 || findReferences(text).names.length > 0) return false
  if (path[0] === 'remotes' && path.length === 3) return isSecretOption(name)
  if (path[0] === 'processes' && path[2] === 'env' && path.length === 4) return isSecretVariable(name)
  return false
}

const checkReferencesOf = (text: string, path: ManifestPath): Finding[] => {
  if (isPlace(path, LEFT_AS_WRITTEN)) return []
  const { names, malformed } = findReferences(text)
  const wrong = malformed[0]
  if (isPlace(path, INTERPOLATED))
    return wrong === undefined
      ? []
      : [
          {
            code: 'invalid_manifest',
            path,
            message: `${pathText(path)} holds “${wrong}”, which is not \${NAME}`,
            hint: 'Write ${NAME} with letters, digits and “_”; $${ stands for ${ itself.',
          },
        ]
  if (names.length === 0) return []
  return [
    {
      code: 'invalid_manifest',
      path,
      message: `\${${names[0] ?? ''}} is not replaced in ${pathText(path)}`,
      hint: '${NAME} works in remotes, notify, the env of processes and paths; write the value here.',
    },
  ]
}
