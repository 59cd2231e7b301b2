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
 * The link `current` moves in one step.
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
version=$("$work/new/bin/agentd" --version)
if test -e "$1/$version"; then mv "$1/$version" "$work/old"; fi
mv "$work/new" "$1/$version"
ln -s "$version" "$work/current"
mv -fT "$work/current" "$1/current"
echo "$version"`

/**
 * Puts a release on the box, over the same kind of connection as everything else: PREFIX/VERSION, and the link
 * PREFIX/current. What is there already is not sent again.
 * @throws AgentError usage, unreachable, unauthorized, io_error
 */
export const installRelease = async (
  { prefix, release }: { readonly prefix: string; readonly release: Pick<Release, 'archive' | 'sha256'> },
  context: SshContext,
): Promise<'present' | 'installed'> => {
  if (!isPlainPath(prefix))
    throw new AgentError('usage', `--prefix: ${prefix} is not a plain absolute path`, {
      hint: 'Use letters, digits and ._/+- alone.',
    })
  await makePlaces(context.places)
  const looked = await runScript({ script: LOOK, words: [prefix, release.sha256] }, context)
  if (looked.stdout.trim().endsWith('present')) return 'present'
  const input = createReadStream(release.archive)
  await runScript({ script: UNPACK, words: [prefix, release.sha256] }, { ...context, input })
  return 'installed'
}

/** Makes the agent start at boot, and starts it. Returns what the script said. @throws AgentError */
export const startAtBoot = async (prefix: string, context: SshContext): Promise<string> => {
  const script = 'exec "$1/current/systemd/install.sh"'
  return (await runScript({ script, words: [prefix] }, context)).stdout
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
