/**
 * Nodes that live in the editor alone: no class on the server stands for them, and they leave no trace in what is sent
 * to run. The first four are ComfyUI’s own, the others those of packs that many workflows use.
 */
export const FRONTEND_NODES: ReadonlySet<string> = new Set([
  'Note',
  'MarkdownNote',
  'Reroute',
  'PrimitiveNode',
  'GetNode',
  'SetNode',
  'easy getNode',
  'easy setNode',
  'Bookmark (rgthree)',
  'Fast Actions Button (rgthree)',
  'Fast Bypasser (rgthree)',
  'Fast Groups Bypasser (rgthree)',
  'Fast Groups Muter (rgthree)',
  'Fast Muter (rgthree)',
  'Label (rgthree)',
  'Mute / Bypass Relay (rgthree)',
  'Mute / Bypass Repeater (rgthree)',
  'Node Collector (rgthree)',
  'Node Combiner (rgthree)',
  'Random Unmuter (rgthree)',
  'Reroute (rgthree)',
])
