/* Checks one environment, given as JSON in argv, and prints what it took. */
import type { AbiLayout } from '../../agent/python/abi/abi-layout.ts'
import { checkObjects } from '../../agent/python/abi/check-objects.ts'

const layout = JSON.parse(process.argv[2] ?? '') as AbiLayout
const startedMs = performance.now()
const { objects } = checkObjects(layout)
const ms = performance.now() - startedMs
console.log(JSON.stringify({ objects, ms, megabytes: process.resourceUsage().maxRSS / 1000 }))
