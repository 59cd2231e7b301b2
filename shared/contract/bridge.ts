/**
 * What `agentd bridge` says first, when the agent's socket is open: from the byte after it on, everything is the
 * agent's. What came before it was said by the login scripts of the box.
 */
export const BRIDGE_GREETING = '\0gpu-agent bridge\n'
