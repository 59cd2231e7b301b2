import { expect, test } from 'vitest'
import { readImportReport } from '../../../agent/processes/kinds/comfyui/import-report.ts'

test('each failure is told once, with its own reason, and parts of ComfyUI itself apart', () => {
  const output = [
    'Failed to execute startup-script: /c/custom_nodes/Early/prestartup_script.py / too early',
    'Prestartup times for custom nodes:',
    '   0.0 seconds (PRESTARTUP FAILED): /c/custom_nodes/Early',
    'Cannot import /c/comfy_extras/nodes_audio.py module for custom nodes: no torchaudio',
    'Cannot import /c/custom_nodes/Broken module for custom nodes: No module named x',
    'Skip /c/custom_nodes/Empty module for custom nodes due to the lack of NODE_CLASS_MAPPINGS or NODES_LIST (need one).',
    'Import times for custom nodes:',
    '   0.0 seconds: /c/custom_nodes/Early',
    '   0.1 seconds (IMPORT FAILED): /c/custom_nodes/Empty',
    '   0.1 seconds (IMPORT FAILED): /c/custom_nodes/Broken',
    '   0.1 seconds (IMPORT FAILED): /c/custom_nodes/Silent',
  ].join('\n')
  const { failures, loaded } = readImportReport(output)
  expect(failures.map(({ node, reason, isOwn }) => [node, reason, isOwn])).toEqual([
    ['Early', 'prestartup', false],
    ['nodes_audio.py', 'import', true],
    ['Broken', 'import', false],
    ['Empty', 'empty', false],
    ['Silent', 'import', false],
  ])
  expect([...(loaded ?? [])]).toEqual(['Early', 'Empty', 'Broken', 'Silent'])
})

test('output without a table of import times says nothing about what was loaded', () => {
  expect(readImportReport('Starting server\n')).toEqual({ failures: [], loaded: undefined })
})
