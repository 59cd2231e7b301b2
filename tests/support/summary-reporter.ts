import type { Reporter } from 'vitest/node'

/** The last line of a run, plain: `Tests: 12 passed, 0 failed, 1 skipped`. Skipped tests are named with their reason. */
export const createSummaryReporter = (): Reporter => ({
  onTestRunEnd: (modules) => {
    const counts = { passed: 0, failed: 0, skipped: 0 }
    for (const module of modules) {
      // A file or a hook that failed leaves no failed test behind, and is a failure all the same.
      const failedTests = [...module.children.allTests('failed')].length
      if (module.state() === 'failed' && failedTests === 0) counts.failed += 1
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state !== 'pending') counts[state] += 1
        if (state === 'skipped') console.log(`skipped: ${module.relativeModuleId} > ${test.fullName}`)
      }
    }
    // After the default reporter's own summary.
    process.once('exit', () =>
      process.stdout.write(
        `Tests: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`,
      ),
    )
  },
})
