import { expect, test } from 'vitest'
import { lazyRepositories } from '../../../shared/cosmos/lazy-repositories.ts'

const fetched = (command: string, more: { working_dir?: string; guardrails?: boolean } = {}) =>
  lazyRepositories({
    command: command.split(' '),
    working_dir: more.working_dir ?? '/workspace/cosmos-transfer2.5',
    guardrails: more.guardrails ?? false,
  }).map(({ repo, path }) => (path === null ? repo : `${repo}/${path}`))

const PREDICT = { working_dir: '/workspace/cosmos-predict2.5' }

test('incident B8: Transfer 2.5 fetches its tokenizer from Predict’s repository, and that is known', () => {
  expect(fetched('python examples/inference.py -i a.json -o out')).toEqual([
    'nvidia/Cosmos-Transfer2.5-2B',
    'nvidia/Cosmos-Predict2.5-2B/tokenizer.pth',
    'nvidia/Cosmos-Reason1-7B',
  ])
})

test.each([
  {
    what: 'Predict 2.5',
    command: 'python examples/inference.py -i a.json -o out',
    repositories: ['nvidia/Cosmos-Predict2.5-2B', 'nvidia/Cosmos-Reason1-7B'],
  },
  {
    what: 'Predict 2.5 with the large model, under torchrun',
    command: 'torchrun --nproc_per_node=8 examples/inference.py -i a.json --model=14B/post-trained',
    repositories: [
      'nvidia/Cosmos-Predict2.5-14B',
      'nvidia/Cosmos-Predict2.5-2B/tokenizer.pth',
      'nvidia/Cosmos-Reason1-7B',
    ],
  },
  {
    what: 'Predict 2.5 with a checkpoint on the disk',
    command: 'python examples/inference.py -i a.json --checkpoint-path /models/mine.pt',
    repositories: ['nvidia/Cosmos-Predict2.5-2B/tokenizer.pth', 'nvidia/Cosmos-Reason1-7B'],
  },
  {
    what: 'Cosmos 3',
    command: 'python -m cosmos_framework.scripts.inference -i a.json --checkpoint-path Cosmos3-Nano',
    repositories: ['nvidia/Cosmos3-Nano'],
  },
  {
    what: 'Cosmos 3 with a checkpoint on the disk',
    command: 'python cosmos_framework/scripts/inference.py --checkpoint-path /models/Cosmos3-Nano',
    repositories: [],
  },
  {
    what: 'Cosmos 3 served by vLLM',
    command: '/venv/bin/vllm serve nvidia/Cosmos3-Super --omni',
    repositories: ['nvidia/Cosmos3-Super'],
  },
  { what: 'another program', command: 'python train.py', repositories: [] },
])('$what fetches $repositories by itself', ({ command, repositories }) => {
  expect(fetched(command, PREDICT)).toEqual(repositories)
})

test.each([
  { what: 'guardrails: true', command: 'python examples/inference.py -i a.json', guardrails: true },
  {
    what: 'a command that leaves them on',
    command: 'python examples/inference.py --no-disable-guardrails',
    guardrails: false,
  },
])('incident B7: $what adds the guardrails’ gated repositories', ({ command, guardrails }) => {
  expect(fetched(command, { guardrails }).slice(-3)).toEqual([
    'nvidia/Cosmos-Guardrail1',
    'Qwen/Qwen3Guard-Gen-0.6B',
    'google/siglip-so400m-patch14-384',
  ])
})

test('incident B7: vLLM-Omni wants another gated guardrail than Cosmos 3 itself', () => {
  const vllm = 'vllm serve nvidia/Cosmos3-Nano --omni'
  expect(fetched(vllm, { guardrails: true })).toContain('nvidia/Cosmos-1.0-Guardrail')
  const own = 'python -m cosmos_framework.scripts.inference --checkpoint-path Cosmos3-Nano'
  expect(fetched(own, { guardrails: true })).toContain('nvidia/Cosmos-Guardrail1')
})
