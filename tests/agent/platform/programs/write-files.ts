/* write-files.ts PATH SIZE [ROUNDS]: replaces a file by SIZE bytes of A, of B, of A … until it is killed. */
import { atomicWrite } from '../../../../agent/platform/files.ts'

const [path = '', size = '0', rounds = 'Infinity'] = process.argv.slice(2)
console.log('writing')
for (let round = 0; round < Number(rounds); round += 1)
  try {
    atomicWrite(path, (round % 2 === 0 ? 'A' : 'B').repeat(Number(size)))
  } catch (error) {
    console.log(error instanceof Error && 'code' in error ? error.code : error)
  }
