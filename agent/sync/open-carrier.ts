import type { Carrier } from './carrier.ts'
import type { HashFile } from './file-hashes.ts'
import { createLocalCarrier } from './local-carrier.ts'
import type { PlannedSync } from './planned-sync.ts'
import { createRcloneCarrier } from './rclone-carrier.ts'
import type { RcloneDeps } from './rclone.ts'
import { openRclone } from './rclone.ts'

/** The carrier for a sync's destination. @throws AgentError program_missing, sync_config */
export const openCarrier = async (
  planned: PlannedSync,
  deps: RcloneDeps & { hashFile: HashFile; signal: AbortSignal },
): Promise<Carrier> => {
  const { remote, spec, to } = planned
  if (!remote)
    return createLocalCarrier(to, { hashFile: deps.hashFile, owner: `${deps.temporaryFolder} ${spec.name}` })
  const rclone = await openRclone(remote, deps)
  return createRcloneCarrier(rclone, { type: remote.type, to, temporaryFolder: deps.temporaryFolder })
}
