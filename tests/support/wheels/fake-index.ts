import type { WheelOptions } from './make-wheel.ts'
import { makeWheel } from './make-wheel.ts'

/** Small stand-ins with real names, versions and requirements: everything a plan around torch can run into. */
const DISTS: readonly WheelOptions[] = [
  ...['2.9.1', '2.9.1+cu126', '2.9.1+cu128', '2.10.0', '2.10.0+cu128', '2.10.0+cu130', '2.10.0+cpu'].map(
    (version) => ({ name: 'torch', version, requires: ['numpy'] }),
  ),
  { name: 'numpy', version: '1.26.4' },
  { name: 'numpy', version: '2.2.6' },
  { name: 'torchvision', version: '0.24.1+cu128', requires: ['torch==2.9.1', 'numpy'] },
  { name: 'torchvision', version: '0.25.0', requires: ['torch==2.10.0', 'numpy'] },
  { name: 'xformers', version: '0.0.33', requires: ['torch==2.9.1'] },
  { name: 'xformers', version: '0.0.34', requires: ['torch==2.10.0'] },
  { name: 'einops', version: '0.7.0' },
  { name: 'einops', version: '0.8.0' },
  { name: 'nodea', version: '1.0', requires: ['numpy>=1.20', 'einops'] },
  { name: 'nodeb', version: '1.0', requires: ['torch>=2.10'] },
  { name: 'nodec', version: '1.0', requires: ['numpy<2'] },
  { name: 'noded', version: '1.0', requires: ['torch'] },
  { name: 'nodee', version: '1.0', requires: ['xformers'] },
  { name: 'nodef', version: '1.0', requires: ['facelib'] },
  { name: 'facelib', version: '3.0', requires: ['torch!=2.9.1'] },
  { name: 'facelib', version: '2.0', requires: ['torch'] },
  { name: 'onlycp310', version: '1.0', tag: 'cp310-cp310-linux_x86_64' },
  { name: 'newglibc', version: '1.0', tag: 'cp311-cp311-manylinux_2_99_x86_64' },
  { name: 'py4only', version: '1.0', requiresPython: '>=4.0' },
]

/** Writes the fake index as a folder of wheels, for PIP_FIND_LINKS. */
export const makeFakeIndex = (folder: string): void => {
  for (const dist of DISTS) makeWheel(dist, folder)
}
