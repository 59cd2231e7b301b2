// Who may import whom (docs/architecture.md). Rows go down only: a folder may import the rows before its own.
const ROWS = [
  ['shared'],
  ['agent/platform'],
  [
    'agent/preflight',
    'agent/downloads',
    'agent/python',
    'agent/processes',
    'agent/sync',
    'agent/budget',
    'agent/audit',
    'agent/notify',
  ],
  ['agent/apply'],
  ['agent/http'],
  [
    'agent/compose.ts',
    'agent/compose-rooms.ts',
    'agent/make-box.ts',
    'agent/main.ts',
    'agent/config.ts',
    'agent/pair.ts',
    'agent/bridge.ts',
  ],
]

const anchored = (folder) => (folder.endsWith('.ts') ? `^${folder.replace('.', '\\.')}$` : `^${folder}/`)

const downOnly = ROWS.flatMap((row, index) =>
  row.map((folder) => ({
    name: `down-only: ${folder}`,
    severity: 'error',
    comment: `${folder} may import the rows before its own and itself, nothing above or beside it.`,
    from: { path: anchored(folder) },
    to: {
      path: [
        ...ROWS.slice(index + 1).flat(),
        ...(folder.startsWith('agent/') && index === ROWS.length - 1
          ? []
          : row.filter((other) => other !== folder)),
      ]
        .map(anchored)
        .concat('^client/'),
    },
  })),
)

module.exports = {
  forbidden: [
    ...downOnly,
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'shared-is-a-leaf',
      severity: 'error',
      from: { path: '^shared/' },
      to: { path: '^(agent|client|tests|bench|scripts)/' },
    },
    {
      name: 'client-sees-only-shared-and-the-type-of-the-app',
      severity: 'error',
      comment: 'The client is a thin program: of the agent it knows the type App, and nothing at run time.',
      from: { path: '^client/' },
      to: { path: '^agent/', pathNot: '^agent/http/app\\.ts$' },
    },
    {
      name: 'client-imports-app-as-a-type-only',
      severity: 'error',
      from: { path: '^client/' },
      to: { path: '^agent/http/app\\.ts$', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'native-modules-stay-in-the-platform-and-the-shim',
      severity: 'error',
      from: { pathNot: '^(agent/platform/|agent/processes/shim/|tests/|bench/|scripts/)' },
      to: { path: 'node_modules/(better-sqlite3|node-pty|chokidar)/' },
    },
    {
      name: 'product-never-imports-tests',
      severity: 'error',
      from: { path: '^(shared|agent|client)/' },
      to: { path: '^(tests|bench|scripts)/' },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
}
