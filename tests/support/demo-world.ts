import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { parseDocument } from 'yaml'
import { findProgram } from '../../agent/platform/commands.ts'
import { STRANGER_TOKEN } from './hub/hub-model.ts'
import { startHub } from './hub/hub.ts'
import type { Hub } from './hub/hub.ts'
import { makeWheel } from './wheels/make-wheel.ts'

const root = join(import.meta.dirname, '..', '..')

/** The world of examples/demo.yaml: a hub with its two models, a wheel in a folder, and a Python. */
export type DemoWorld = {
  readonly hub: Hub
  /** What an agent needs to live in this world; a shell's environment on a real box. */
  readonly environment: Readonly<Record<string, string>>
  /** examples/demo.yaml with a port that is free here. */
  readonly manifestPath: string
  readonly port: number
  /** False: no Python here has pip and venv, so the manifest’s Python part is left out. */
  readonly hasPython: boolean
  /** Destination → sha256, as the hub publishes it. */
  readonly hashes: Readonly<Record<string, string>>
  close(): Promise<void>
}

const MODEL_BYTES = 64e6

/** Starts the world around `home`; the agent's own home lies in the same folder. */
export const startDemoWorld = async (
  home: string,
  options: { readonly modelBytes?: number } = {},
): Promise<DemoWorld> => {
  const sizeBytes = options.modelBytes ?? MODEL_BYTES
  const hub = await startHub({
    files: [
      { repo: 'demo/base', path: 'base.safetensors', sizeBytes, seed: 'base' },
      { repo: 'demo/gated', path: 'style.safetensors', sizeBytes, seed: 'style', gated: true },
      { repo: 'demo/mirror', path: 'style-copy.safetensors', sizeBytes, seed: 'style' },
    ],
  })
  const python = findPython()
  const wheels = join(home, 'wheels')
  const trainer = readFileSync(join(root, 'examples/demo-trainer/__main__.py'), 'utf8')
  makeWheel(
    {
      name: 'demo-trainer',
      version: '1.0',
      files: { 'demo_trainer/__init__.py': "__version__ = '1.0'\n", 'demo_trainer/__main__.py': trainer },
    },
    wheels,
  )
  mkdirSync(join(home, 'work', 'checkpoints'), { recursive: true })
  const example = readFileSync(join(root, 'examples/demo.yaml'), 'utf8')
  if (python === undefined) {
    mkdirSync(join(home, 'demo_trainer'))
    writeFileSync(join(home, 'demo_trainer', '__main__.py'), trainer)
  }
  const port = await freePort()
  const manifestPath = join(home, 'demo.yaml')
  const manifest = python === undefined ? withoutPython(example, home) : example
  writeFileSync(manifestPath, manifest.replaceAll('47187', String(port)))
  return {
    hub,
    manifestPath,
    port,
    hasPython: python !== undefined,
    environment: {
      DEMO_HOME: home,
      ...(python === undefined ? {} : { DEMO_PYTHON: python }),
      HF_ENDPOINT: hub.url,
      // A token whose account has accepted no terms: the gated source refuses it, and its mirror serves.
      HF_TOKEN: STRANGER_TOKEN,
      AGENT_ALLOW_HOSTS: hub.allowHosts.join(','),
      PIP_NO_INDEX: '1',
      PIP_FIND_LINKS: wheels,
    },
    hashes: {
      'models/checkpoints/base.safetensors': hub.file('base.safetensors').content.sha256,
      'models/loras/style.safetensors': hub.file('style-copy.safetensors').content.sha256,
    },
    close: () => hub.close(),
  }
}

/** The first Python 3 that can make an environment with pip in it, as absolute path; undefined when there is none. */
const findPython = (): string | undefined => {
  for (const name of ['python3', '/usr/bin/python3']) {
    const python = findProgram(name, process.env['PATH'] ?? '')
    if (python === undefined) continue
    const real = spawnSync(python, ['-c', 'import sys, venv, pip; print(sys.executable)'], {
      encoding: 'utf8',
    })
    if (real.status === 0) return real.stdout.trim()
  }
  return undefined
}

/** A port of loopback that nobody listens on. */
const freePort = async (): Promise<number> => {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** The manifest without its Python part: the trainer runs as a script of the system's Python. */
const withoutPython = (manifest: string, home: string): string => {
  const document = parseDocument(manifest)
  document.delete('python')
  const script = join(home, 'demo_trainer', '__main__.py')
  document.setIn(['processes', 'trainer', 'command'], ['python3', script, '--port', '47187'])
  return document.toString()
}
