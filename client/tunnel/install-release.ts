import { createReadStream } from 'node:fs'
import { AgentError } from '../../shared/contract/errors.ts'
import { isPlainPath, targetText } from '../context/target.ts'
import type { Release } from '../release.ts'
import { makePlaces } from './places.ts'
import type { SshContext, SshEnd } from './ssh.ts'
import { runOnBox } from './ssh.ts'
import { sshFailure } from './ssh-failure.ts'

/** What the box has, in one look: is this very release there already? Prints `present` or `absent`. */
const LOOK = `set -eu
test "$(uname -sm)" = "Linux x86_64" || { echo "error: this is $(uname -sm), and the release is for Linux x86_64" >&2; exit 1; }
if test -x "$1/current/bin/agentd" && test "$(cat "$1/current/.sha256" 2>/dev/null)" = "$2"; then echo present; else echo absent; fi`

/**
 * Takes the archive from standard input; nothing is visible under its final name before it was checked and has run once.
 * A release never replaces another one: its folder carries a piece of its hash. Prints the name of the folder.
 */
const UNPACK = `set -eu
umask 022
mkdir -p "$1"
work=$(mktemp -d "$1/.incoming.XXXXXX")
trap "rm -rf $work" EXIT
cat >"$work/release.tar.gz"
echo "$2  $work/release.tar.gz" | sha256sum -c - >/dev/null || { echo "error: the release did not arrive whole" >&2; exit 1; }
mkdir "$work/new"
tar -xzf "$work/release.tar.gz" -C "$work/new" --strip-components=1 --no-same-owner
echo "$2" >"$work/new/.sha256"
name=$("$work/new/bin/agentd" --version)-$(printf %.8s "$2")
rm -rf "$1/$name"
mv "$work/new" "$1/$name"
echo "$name"`

/** A release on the box: the name of its folder under the prefix; `current` where it is the one in use already. */
export type PlacedRelease = { readonly state: 'present' | 'installed'; readonly name: string }

/**
 * Puts a release on the box, beside the one in use and over the same kind of connection as everything else. What is in
 * use already is not sent again.
 * @throws AgentError usage, unreachable, unauthorized, io_error
 */
export const installRelease = async (
  { prefix, release }: { readonly prefix: string; readonly release: Pick<Release, 'archive' | 'sha256'> },
  context: SshContext,
): Promise<PlacedRelease> => {
  if (!isPlainPath(prefix))
    throw new AgentError('usage', `--prefix: ${prefix} is not a plain absolute path`, {
      hint: 'Use letters, digits and ._/+- alone.',
    })
  await makePlaces(context.places)
  const looked = await runScript({ script: LOOK, words: [prefix, release.sha256] }, context)
  if (looked.stdout.trim().endsWith('present')) return { state: 'present', name: 'current' }
  const input = createReadStream(release.archive)
  const unpacked = await runScript({ script: UNPACK, words: [prefix, release.sha256] }, { ...context, input })
  return { state: 'installed', name: unpacked.stdout.trim().split('\n').at(-1) ?? '' }
}

/**
 * Makes a placed release the one in use, starts its agent at boot and now; a new one that does not answer is taken back
 * by the box itself (systemd/switch.sh). Returns what the scripts said.
 * @throws AgentError unreachable, io_error: the old release runs again
 */
export const startRelease = async (
  {
    prefix,
    placed,
    service,
  }: { readonly prefix: string; readonly placed: PlacedRelease; readonly service: boolean },
  context: SshContext,
): Promise<string> => {
  if (!isPlainPath(`/${placed.name}`))
    throw new AgentError('io_error', `the box named a release ${placed.name}`)
  const script =
    placed.state === 'installed'
      ? 'exec "$1/$2/systemd/switch.sh" ${3-}'
      : 'if test -z "${3-}"; then exec "$1/$2/systemd/install.sh"; fi'
  const words = [prefix, placed.name, ...(service ? [] : ['--no-service'])]
  return (await runScript({ script, words }, context)).stdout
}

/**
 * Runs a script of ours with words of a plain alphabet. It goes to the login shell of the box in single quotes (it has
 * none inside), so it means the same to every POSIX shell.
 */
const runScript = async (
  { script, words }: { readonly script: string; readonly words: readonly string[] },
  context: Parameters<typeof runOnBox>[1],
): Promise<SshEnd> => {
  const end = await runOnBox(['exec', 'sh', '-c', `'${script}'`, 'sh', ...words], context)
  if (end.exitCode === 0) return end
  if (end.exitCode === 255) throw sshFailure(end, context)
  const said = /^error: (.+)$/m.exec(end.stderr)?.[1] ?? end.stderr.trim().split('\n').at(-1)
  const hint = /^try: (.+)$/m.exec(end.stderr)?.[1]
  throw new AgentError('io_error', `${targetText(context.target)}: ${said ?? 'the installation failed'}`, {
    hint: hint ?? 'Log in as root or name a folder of your own with --prefix; nothing was changed.',
  })
}
