import { defineConfig } from 'vitest/config'
import { createSummaryReporter } from './tests/support/summary-reporter.ts'

export default defineConfig({
  test: {
    // Child processes of a test (agents, shims, pip) need room on a two-core machine.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    reporters: ['default', createSummaryReporter()],
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['tests/{shared,agent,client,incidents}/**/*.test.ts'] },
      },
      {
        extends: true,
        test: {
          name: 'end-to-end',
          include: ['tests/end-to-end/**/*.test.ts'],
          testTimeout: 300_000,
          // These run the programs as they are released.
          globalSetup: ['./tests/support/build-programs.ts'],
        },
      },
    ],
  },
})
