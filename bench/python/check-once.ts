/* Checks one environment, given as JSON in argv, and prints what it took. */
import type { AbiLayout } from '../../agent/python/abi/abi-layout.ts'
import { checkObjects } from '../../agent/python/abi/check-objects.ts'

/** What one check took. */
export type OneCheck = { readonly objects: number; readonly ms: number; readonly megabytes: number }

const layout = JSON.parse(process.argv[2] ?? '') as AbiLayout
const startedMs = performance.now()
const { objects } = checkObjects(layout)
const ms = performance.now() - startedMs
const one: OneCheck = { objects, ms, megabytes: process.resourceUsage().maxRSS / 1000 }
console.log(JSON.stringify(one))
