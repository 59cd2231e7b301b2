import { expect, test } from 'vitest'
import { startBench } from './bench.ts'

const MB = 1_000_000
const repo = 'owner/repo'

test('a file arrives whole, verified, under its name and with nothing beside it', async () => {
  await using bench = await startBench({ files: [{ repo, path: 'a.safetensors', sizeBytes: 20 * MB }] })
  const outcome = await bench.fetch(bench.planned('a.safetensors'))
  expect(outcome).toMatchObject({ state: 'done', problem: null })
  expect(bench.sha256('a.safetensors')).toBe(bench.hub.file('a.safetensors').content.sha256)
  expect(bench.left()).toEqual(['a.safetensors'])
  expect(bench.hub.sentBytes('cdn')).toBe(20 * MB)
  expect(bench.hub.requests.filter((one) => one.at === 'hub')).toHaveLength(1)
})
