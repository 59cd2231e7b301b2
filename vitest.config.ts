import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // Child processes of a test (agents, shims, pip) need room on a two-core machine.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['tests/{shared,agent,client}/**/*.test.ts'] },
      },
      {
        extends: true,
        test: { name: 'end-to-end', include: ['tests/end-to-end/**/*.test.ts'], testTimeout: 300_000 },
      },
    ],
  },
})
