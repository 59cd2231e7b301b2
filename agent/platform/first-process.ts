/**
 * A container's first process inherits every orphan of the container and has to take note of its end, which Node never
 * does: they would stay as zombies until no process can be started any more. And the kernel sends it no signal that it
 * does not ask for. So an agent that finds itself in that place has a shell take it, and runs under that.
 */
export const leaveFirstPlace = (): void => {
  if (process.pid !== 1) return
  const [, script = ''] = process.argv
  const command = [process.execPath, ...process.execArgv, script, ...process.argv.slice(2)]
  process.execve?.('/bin/sh', ['sh', '-c', INIT, 'sh', ...command], definedOnly(process.env))
}

/** Passes on what stops it, ends as the agent ends, and waits for whatever else ends meanwhile. */
const INIT = `
"$@" & pid=$!
trap 'kill -TERM $pid 2>/dev/null' TERM INT
while kill -0 $pid 2>/dev/null; do wait $pid; status=$?; done
exit $status
`

const definedOnly = (environment: NodeJS.ProcessEnv): Record<string, string> =>
  Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
