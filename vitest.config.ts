import { defineConfig } from 'vitest/config'
import { createSummaryReporter } from './tests/support/summary-reporter.ts'

export default defineConfig({
  test: {
    include: ['tests/**/*.test.ts'],
    globalSetup: ['./tests/support/build-programs.ts'],
    // Child processes of a test (agents, shims, pip) need room on a two-core machine.
    testTimeout: 300_000,
    hookTimeout: 120_000,
    // One more than its cores: a test often waits.
    maxWorkers: 3,
    reporters: ['default', createSummaryReporter()],
  },
})
