import { parseArgs } from 'node:util'
import { FAKE_KEY, startProviders } from './fake-providers.ts'

/*
 * Vast.ai and RunPod by hand: `npm run providers -- --box 127.0.0.1:2222` prints what to export, then every call and
 * what the machines cost. Each --box is the sshd that the next machine has.
 */
const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '8899' },
    box: { type: 'string', multiple: true, default: [] },
    'load-seconds': { type: 'string', default: '5' },
  },
})
const addresses = values.box.map((text) => {
  const [host = '', port] = text.split(':')
  return { host, port: Number(port ?? 22) }
})
const fake = await startProviders({
  port: Number(values.port),
  behaviour: { loadMs: Number(values['load-seconds']) * 1000, addresses },
  offers: [
    { id: 501, dph_total: 0.38 },
    { id: 502, dph_total: 0.36, inet_down: 60 },
    { id: 503, gpu_name: 'L40S', gpu_ram: 46_068, dph_total: 0.79 },
    { id: 504, gpu_name: 'RTX 4090', dph_total: 0.31, driver_version: '535.183.01', cuda_max_good: 12.2 },
  ],
})
for (const [name, value] of Object.entries(fake.environment)) console.log(`export ${name}=${value}`)
console.log(`# the key is ${FAKE_KEY}`)

let shown = 0
setInterval(() => {
  for (const call of fake.calls.slice(shown))
    console.log(`${call.provider} ${call.kind} ${call.status} ${call.path}`)
  if (fake.calls.length > shown)
    console.log(
      `# exist: ${fake.ledger.existing().join(' ') || 'none'}; burning: ${fake.ledger.burning().join(' ') || 'none'}; $${fake.ledger.usd().toFixed(4)}`,
    )
  shown = fake.calls.length
}, 1000)
const stop = (): void => {
  void fake.close().then(() => process.exit(0))
}
process.once('SIGINT', stop)
process.once('SIGTERM', stop)
