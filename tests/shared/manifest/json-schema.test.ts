import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { manifestJsonSchema } from '../../../shared/manifest/json-schema.ts'

type Schema = { readonly [key: string]: unknown }

const isSchema = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const schemas = (value: unknown): readonly Schema[] => (Array.isArray(value) ? value.filter(isSchema) : [])

/** Every object schema inside of a schema, with the way to it. */
const objectsIn = (schema: Schema, way = ''): readonly { way: string; schema: Schema }[] => [
  ...(isSchema(schema['properties']) ? [{ way, schema }] : []),
  ...Object.entries(schema).flatMap(([key, value]) =>
    isSchema(value)
      ? objectsIn(value, `${way}/${key}`)
      : schemas(value).flatMap((one, index) => objectsIn(one, `${way}/${key}/${index}`)),
  ),
]

/** Whether a value fits a schema, by the few words of JSON Schema that are used: enough to try the examples. */
const fits = (schema: Schema, value: unknown): boolean => {
  const options = schemas(schema['anyOf'] ?? schema['oneOf'])
  if (options.length > 0) return options.some((one) => fits(one, value))
  if ('const' in schema) return schema['const'] === value
  if (Array.isArray(schema['enum'])) return schema['enum'].includes(value)
  const types = [schema['type']].flat()
  if (Array.isArray(value))
    return types.includes('array') && isSchema(schema['items'])
      ? value.every((item) => fits(schema['items'] as Schema, item))
      : false
  if (isSchema(value)) {
    const properties = isSchema(schema['properties']) ? schema['properties'] : {}
    const others = schema['additionalProperties']
    const required = Array.isArray(schema['required']) ? schema['required'] : []
    return (
      types.includes('object') &&
      required.every((key) => String(key) in value) &&
      Object.entries(value).every(([key, item]) => {
        const known = properties[key]
        return isSchema(known) ? fits(known, item) : isSchema(others) && fits(others, item)
      })
    )
  }
  if (typeof value === 'string')
    return (
      types.includes('string') &&
      (typeof schema['pattern'] !== 'string' || new RegExp(schema['pattern']).test(value))
    )
  if (typeof value === 'number') return types.includes('number') || types.includes('integer')
  return types.includes(typeof value)
}

const schema: Schema = manifestJsonSchema()
const readExample = (name: string): unknown =>
  parse(readFileSync(join(import.meta.dirname, '../../../examples', name), 'utf8'))

test('says what it is', () => {
  expect(schema).toMatchObject({
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: 'urn:gpu-agent:manifest:1',
    title: 'gpu-agent manifest, version 1',
    type: 'object',
    required: ['version', 'name'],
  })
})

test('refuses unknown keys everywhere and describes every key', () => {
  const objects = objectsIn(schema)
  expect(objects.length).toBeGreaterThan(15)
  for (const { way, schema: object } of objects) {
    expect(object['additionalProperties'], way).toBe(false)
    for (const [key, property] of Object.entries(object['properties'] as Schema))
      if (!(isSchema(property) && 'const' in property))
        expect(property, `${way} ${key}`).toHaveProperty('description')
  }
})

test('asks for what a person writes: durations are text, sizes text or a number', () => {
  const text = JSON.stringify(schema)
  expect(text).toContain('"default":"2m"')
  expect(fits(schema, { version: 1, name: 'a', requires: { disk_free: '10GB' } })).toBe(true)
  expect(fits(schema, { version: 1, name: 'a', requires: { disk_free: 10 } })).toBe(true)
  expect(fits(schema, { version: 1, name: 'a', requires: { disk_free: true } })).toBe(false)
})

test.each(['comfyui-video.yaml', 'cosmos-transfer.yaml'])('accepts %s', (name) => {
  const example = readExample(name)
  expect(fits(schema, example)).toBe(true)
  expect(fits(schema, { ...(example as Schema), downlods: [] })).toBe(false)
})
