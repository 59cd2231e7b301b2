import { AgentError, EXIT } from '../../shared/contract/errors.ts'
import type { RunRecord } from '../../shared/contract/records.ts'
import { formatDuration, formatSize } from '../../shared/contract/units.ts'
import type { Api, ManifestText } from '../api.ts'
import type { Call, Command } from '../command.ts'
import { argument } from '../command.ts'
import { connect } from '../connect.ts'
import { resolveBox } from '../context/resolve-box.ts'
import { followRun, runFailure } from '../follow-run.ts'
import { readManifestText } from '../manifest-text.ts'
import type { Output } from '../output/output.ts'
import { orDash } from '../output/rows.ts'
import { bold, yellow } from '../output/text.ts'
import type { RankedOffer } from '../rent/choose-offer.ts'
import type { NewBox } from '../rent/rent-box.ts'

export const up: Command = {
  name: 'up',
  group: 'Renting',
  summary: 'rent a box for a manifest, bring it there, end with its status',
  example: 'agentctl up box.yaml --gpu "RTX 4090,L40S" --max-price 0.60',
  arguments: [{ name: 'manifest', summary: 'the YAML file that says what the box should be' }],
  options: [
    { flags: '--provider <name>', summary: 'vast or runpod; by default the manifest’s, else vast' },
    { flags: '--gpu <name>', summary: 'acceptable GPUs, comma-separated: "RTX 4090,L40S"' },
    { flags: '--max-price <usd>', summary: 'US dollars an hour, everything included' },
    { flags: '--disk <size>', summary: 'size of the disk: 200GB' },
    { flags: '--image <name>', summary: 'the container image; without the agent in it, up installs it' },
    { flags: '--interruptible', summary: 'cheaper, and may be taken away' },
    { flags: '--new', summary: 'rent another box even where one of this manifest is stopped' },
    { flags: '-y, --yes', summary: 'rent or start it without asking' },
    { flags: '--keep', summary: 'keep the box when bringing it up fails; it goes on costing' },
    { flags: '--boot-timeout <duration>', summary: 'until its agent answers; by default 20m' },
    { flags: '--name <name>', summary: 'the name of the context; by default its label' },
    { flags: '--prefix <dir>', summary: 'where the agent goes on an image without it' },
    { flags: '--release <file>', summary: 'the release to install there; by default this agentctl’s own' },
  ],
  run: async (call) => {
    const text = await readManifestText(argument(call, 0))
    const [{ parseManifest }, { readOrder }, { planBeforeRenting }, renting, startingAgain] =
      await Promise.all([
        import('../../shared/manifest/parse-manifest.ts'),
        import('../rent/read-order.ts'),
        import('../rent/plan-before-renting.ts'),
        import('../rent/rent-box.ts'),
        import('../rent/start-again.ts'),
      ])
    const { manifest } = parseManifest(text.manifest, { file: text.file })
    const order = readOrder(manifest, call)
    const { canAsk, confirmRenting } = await import('../rent/ask-user.ts')
    if (order.mayAsk && !canAsk())
      throw new AgentError('usage', 'nobody is here to say yes to the price', {
        hint: 'Repeat it with --yes; nothing was rented.',
      })
    const { openProvider } = await import('../rent/open-provider.ts')
    const provider = await openProvider(order.provider, call.environment)
    const plan = await planBeforeRenting(text, call)
    call.output.problems(plan.problems)
    plan.unchecked.forEach((what) => call.output.note(yellow('unchecked '), what))

    const { waitForBox } = await import('../rent/wait-for-box.ts')
    const bringThere = async ({ id, rental }: NewBox, isNew: boolean): Promise<number> => {
      const made = await waitForBox(
        {
          provider,
          id,
          isNew,
          context: order.context ?? rental.context ?? rental.label.replace(/^gpu-agent-/, ''),
          withinMs: order.bootMs,
          prefix: order.prefix,
          release: order.release,
        },
        call,
      )
      call.output.note(`paired with ${made.hostname} as ${made.name}`)
      const api = connect(await resolveBox(made.name, call.environment), {
        ...call,
        onAgentVersion: () => undefined,
      })
      await startingAgain.startProcesses(rental.stoppedProcesses, { api, call })
      const run = await bringUp(text, { api, call })
      return await showStatus(run, { api, call })
    }

    const { stopped, running } = await startingAgain.findEarlier(manifest.name, { provider, call })
    if (stopped !== undefined && !wantsAnother(call)) {
      const { usdPerHour, label } = stopped.rental
      const price = usdPerHour === null ? '' : ` for $${usdPerHour.toFixed(2)} an hour`
      call.output.note(`${provider.name} instance ${stopped.id} (${label}) is stopped; --new rents another`)
      if (order.mayAsk) await confirmRenting(`Start it again${price}?`, call)
      const rental = { ...stopped.rental, ...renting.limitsOf(manifest) }
      return await startingAgain.startAgain(
        { ...stopped, rental },
        { provider, call, keepsFailed: order.keepsFailed },
        (box) => bringThere(box, false),
      )
    }

    for (const { id, rental } of running)
      call.output.note(
        yellow('again '),
        `${provider.name} instance ${id} (${rental.label}) of this manifest runs already, and this rents another; agentctl apply changes that one`,
      )
    const { chooseOffers } = await import('../rent/choose-offer.ts')
    const wanted = { ...order.wanted, downloadBytes: plan.estimate.downloadBytes ?? 0 }
    const found = await provider.search(
      { ...wanted, interruptible: order.interruptible },
      { signal: call.signal },
    )
    const offers = chooseOffers(found, wanted)
    showOffers(offers, { output: call.output, wanted })
    if (order.mayAsk) await confirmRenting('Rent the first one?', call)

    return await renting.rentBox(offers, { manifest, order, provider, call }, (box) => bringThere(box, true))
  },
}

/** Whoever asks for another machine than a stopped one that is there means it. */
const wantsAnother = (call: Call): boolean =>
  ['new', 'gpu', 'maxPrice', 'disk', 'image', 'interruptible'].some(
    (name) => call.options[name] !== undefined,
  )

const MOST_SHOWN = 5

const showOffers = (
  offers: readonly RankedOffer[],
  { output, wanted }: { output: Output; wanted: { hours: number; downloadBytes: number } },
): void => {
  const rows = offers
    .slice(0, MOST_SHOWN)
    .map(({ offer, totalUsd }, index) => [
      index === 0 ? bold(offer.id) : offer.id,
      `${offer.gpuCount} × ${offer.gpu}`,
      offer.vramBytes === null ? '-' : formatSize(offer.vramBytes),
      `$${offer.usdPerHour.toFixed(3)}`,
      `$${totalUsd.toFixed(2)}`,
      offer.downBytesPerSecond === null ? '-' : `${formatSize(Math.round(offer.downBytesPerSecond))}/s`,
      orDash(offer.driver),
      orDash(offer.cuda),
      offer.reliability === null ? '-' : `${(offer.reliability * 100).toFixed(1)} %`,
      orDash(offer.location),
    ])
  const total = `${formatDuration(wanted.hours * 36e5)} WITH ${formatSize(wanted.downloadBytes)}`
  output.table(
    ['OFFER', 'GPU', 'MEMORY', 'AN HOUR', total.toUpperCase(), 'DOWN', 'DRIVER', 'CUDA', 'RELIABLE', 'WHERE'],
    rows,
  )
}

/** @throws AgentError when the run fails */
const bringUp = async (
  manifest: ManifestText,
  { api, call }: { api: Api; call: Call },
): Promise<RunRecord> => {
  const { events } = await api.events({ limit: 1 })
  const { run } = await api.startRun(manifest)
  call.output.note(`run ${run.id} has begun`)
  const ended = await followRun(run, {
    api,
    output: call.output,
    signal: call.longSignal,
    after: events.at(-1)?.id,
  })
  const failure = runFailure(ended)
  if (failure !== undefined) throw failure
  return ended
}

const showStatus = async (run: RunRecord, { api, call }: { api: Api; call: Call }): Promise<number> => {
  const [status, { statusLines }] = await Promise.all([api.status(), import('../output/status-screen.ts')])
  if (call.output.json) call.output.document({ run, status: { ...status, pulls: [] } })
  call.output.lines(statusLines(status, []))
  return EXIT.done
}
