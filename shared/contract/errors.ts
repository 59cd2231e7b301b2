/** Process exit statuses of agentctl, the same for every command. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  refused: 3,
  notAuthenticated: 4,
  unreachable: 5,
  notFound: 6,
  deadline: 7,
  busy: 8,
  interrupted: 130,
} as const

type CodeEntry = { readonly status: number; readonly exit: number; readonly hint: string }

/**
 * The closed table of everything that can go wrong: code → HTTP status, exit status, default hint.
 * A hint is what the user does next; a throw site that knows better passes its own.
 */
export const ERROR_CODES = {
  // the request itself
  bad_request: { status: 400, exit: EXIT.usage, hint: 'See the API description at /v1/openapi.json.' },
  body_too_large: {
    status: 413,
    exit: EXIT.refused,
    hint: 'A manifest or a workflow may have 4 MiB, any other request 1 MiB.',
  },
  usage: { status: 400, exit: EXIT.usage, hint: 'Run the command with --help.' },
  unauthorized: {
    status: 401,
    exit: EXIT.notAuthenticated,
    hint: 'Pair this machine again: agentctl pair TARGET.',
  },
  forbidden: {
    status: 403,
    exit: EXIT.notAuthenticated,
    hint: 'Use a token with the scope that is named; agentd pair --scope makes one.',
  },
  too_many_failures: {
    status: 429,
    exit: EXIT.notAuthenticated,
    hint: 'Wait a minute, then use a token that counts: agentctl pair TARGET.',
  },
  too_many_streams: {
    status: 503,
    exit: EXIT.busy,
    hint: 'End some of the terminals, followed logs and event streams that are open.',
  },
  not_found: { status: 404, exit: EXIT.notFound, hint: 'List what there is, then name one of them.' },
  method_not_allowed: { status: 405, exit: EXIT.usage, hint: 'See the API description at /v1/openapi.json.' },
  busy: { status: 409, exit: EXIT.busy, hint: 'Wait for it to end, or cancel it: agentctl run cancel ID.' },
  deadline: {
    status: 504,
    exit: EXIT.deadline,
    hint: 'Give it more time with --timeout, or look at the events.',
  },
  unreachable: {
    status: 502,
    exit: EXIT.unreachable,
    hint: 'Check that agentd runs on the box: agentctl doctor.',
  },
  pin_mismatch: {
    status: 502,
    exit: EXIT.unreachable,
    hint: 'If the box was made anew, pair with the pin that agentd pair --json prints there; otherwise somebody stands in between.',
  },
  version_mismatch: {
    status: 426,
    exit: EXIT.failed,
    hint: 'Install the same version of agentctl and agentd.',
  },
  internal: {
    status: 500,
    exit: EXIT.failed,
    hint: 'This is a defect of gpu-agent; please report it with the log.',
  },

  // the manifest and its plan
  invalid_manifest: { status: 422, exit: EXIT.refused, hint: 'Correct the lines that are named.' },
  plan_has_errors: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Correct every problem that is listed, then apply again.',
  },
  not_supported: { status: 422, exit: EXIT.refused, hint: 'Take this part out of the manifest for now.' },
  service_refused: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Run that command by hand to see why: without a login session systemctl --user needs loginctl enable-linger USER.',
  },
  secret_missing: { status: 422, exit: EXIT.refused, hint: 'Put it into the box: agentctl secret set NAME.' },
  secret_in_manifest: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Name the secret under secrets and use ${NAME}.',
  },
  no_interpreter: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Give the path of a Python 3.9 or newer that exists.',
  },
  program_missing: { status: 422, exit: EXIT.refused, hint: 'Install it on the box.' },
  working_dir_missing: { status: 422, exit: EXIT.refused, hint: 'Create the folder or correct working_dir.' },
  port_in_use: { status: 422, exit: EXIT.refused, hint: 'Stop what listens there or choose another port.' },
  gpu_too_small: { status: 422, exit: EXIT.refused, hint: 'Rent a box with a larger GPU.' },
  gpu_missing: { status: 422, exit: EXIT.refused, hint: 'Rent a box with a GPU, or take requires.gpu out.' },
  driver_too_old: { status: 422, exit: EXIT.refused, hint: 'Rent a box with a newer driver.' },
  remote_unreachable: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Check the remote’s options and credentials.',
  },
  few_tasks: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Set OMP_NUM_THREADS in the env of the processes, or rent another machine.',
  },
  clock_skewed: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Set the clock of the machine, or rent another one: signed addresses and uploads fail.',
  },
  unsafe_path: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Use a path inside the folder it belongs to, without “..”.',
  },
  unpinned_ref: { status: 422, exit: EXIT.refused, hint: 'Use the full commit as ref.' },

  // disk
  disk_full: {
    status: 507,
    exit: EXIT.failed,
    hint: 'Free some space, then do it again: what is there is kept.',
  },
  disk_too_small: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Free the space that is named or rent a larger disk.',
  },
  read_only: {
    status: 503,
    exit: EXIT.failed,
    hint: 'The file system is read-only; remount it for writing.',
  },
  io_error: { status: 500, exit: EXIT.failed, hint: 'Check the disk; nothing was marked as done.' },

  // sources and downloads
  source_not_found: { status: 422, exit: EXIT.failed, hint: 'Check the path in the repository.' },
  repository_not_found: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Check the name; if it is private, use a token that may read it.',
  },
  revision_not_found: { status: 422, exit: EXIT.failed, hint: 'Use a branch, tag or commit that exists.' },
  gated: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Accept the terms on the repository’s page with the token’s account.',
  },
  bad_token: { status: 422, exit: EXIT.failed, hint: 'Make a new token on the hub and set it again.' },
  login_required: { status: 422, exit: EXIT.failed, hint: 'Give the hub’s token as a secret.' },
  repository_disabled: { status: 422, exit: EXIT.failed, hint: 'The hub took it down; use another source.' },
  archived: { status: 422, exit: EXIT.failed, hint: 'The author archived it; use another source.' },
  rate_limited: { status: 429, exit: EXIT.failed, hint: 'Wait, or use a token: its limits are higher.' },
  source_unavailable: { status: 502, exit: EXIT.failed, hint: 'Try again later or add a mirror under from.' },
  source_refused: {
    status: 502,
    exit: EXIT.failed,
    hint: 'Open the address in a browser to see what it wants.',
  },
  source_changed: {
    status: 502,
    exit: EXIT.failed,
    hint: 'The file changed while it was fetched; apply again.',
  },
  forbidden_address: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Use https and a public host, or list the host in AGENT_ALLOW_HOSTS.',
  },
  redirect_refused: {
    status: 502,
    exit: EXIT.failed,
    hint: 'The source redirects to a place that is not allowed.',
  },
  hash_mismatch: { status: 502, exit: EXIT.failed, hint: 'Correct the sha256, or use another source.' },
  size_mismatch: { status: 502, exit: EXIT.failed, hint: 'Correct the size, or use another source.' },
  not_a_model: {
    status: 502,
    exit: EXIT.failed,
    hint: 'The source sent a web page or an error instead of the file.',
  },
  pickle_refused: { status: 422, exit: EXIT.refused, hint: 'Use safetensors, or set allow_pickle: true.' },
  mirror_differs: { status: 422, exit: EXIT.refused, hint: 'Take the mirror out: it holds another file.' },
  mirror_unproven: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Give sha256 in the manifest to prove the mirror.',
  },
  file_damaged: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Apply the manifest again, or pull the file again: it is fetched anew. Then check the disk.',
  },
  destination_invalid: { status: 422, exit: EXIT.refused, hint: 'Choose another destination.' },

  // python
  overlay_failed: { status: 500, exit: EXIT.failed, hint: 'Check that the interpreter has the venv module.' },
  install_blocked: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Use a version that works with what is protected, or no_deps.',
  },
  install_unresolvable: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Check the package name, the version and the index.',
  },
  install_needs_build: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Only wheels are installed; use a version with one.',
  },
  install_abi_conflict: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Take a version that was built for what is installed.',
  },
  install_clobber: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Keep one of the two packages.',
  },
  install_failed: {
    status: 500,
    exit: EXIT.failed,
    hint: 'The environment is what it was; read the message of pip.',
  },
  import_failed: { status: 500, exit: EXIT.failed, hint: 'Add the missing package to python.install.' },
  requirement_invalid: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Correct the line of the requirements file.',
  },
  requirement_conflict: {
    status: 422,
    exit: EXIT.refused,
    hint: 'The files that are named exclude each other.',
  },
  custom_node_failed: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Check the address and the ref of the custom node.',
  },

  // processes
  process_unplanned: {
    status: 409,
    exit: EXIT.failed,
    hint: 'Apply the manifest: agentctl apply MANIFEST.',
  },
  process_failed: { status: 500, exit: EXIT.failed, hint: 'Read its output: agentctl logs PROCESS.' },
  process_not_ready: { status: 504, exit: EXIT.failed, hint: 'Read its output: agentctl logs PROCESS.' },
  pattern_too_slow: {
    status: 422,
    exit: EXIT.failed,
    hint: 'Write it without one repetition inside another: (a+)+ is what takes for ever.',
  },
  workflow_invalid: { status: 422, exit: EXIT.failed, hint: 'Save the workflow again in ComfyUI.' },
  workflow_node_missing: { status: 422, exit: EXIT.failed, hint: 'Add its pack to custom_nodes.' },
  workflow_model_missing: { status: 422, exit: EXIT.failed, hint: 'Add it to downloads.' },
  outputs_missing: { status: 500, exit: EXIT.failed, hint: 'Read its output: agentctl logs PROCESS.' },
  process_stalled: { status: 500, exit: EXIT.failed, hint: 'Read its output: agentctl logs PROCESS.' },
  cuda_fault: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Send the jobs of its queue again. If it comes back, look at the node in its output, then for Xid in dmesg.',
  },
  variants_failed: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Read the output of the step: agentctl logs PROCESS.',
  },
  process_lost: { status: 500, exit: EXIT.failed, hint: 'Start it again: agentctl start PROCESS.' },
  crash_looping: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Read its output, correct the cause, then start it.',
  },
  terminal_unavailable: {
    status: 409,
    exit: EXIT.failed,
    hint: 'Read its output instead: agentctl logs PROCESS.',
  },
  spawn_failed: { status: 500, exit: EXIT.failed, hint: 'Check command and working_dir.' },

  // sync and checkpoints
  sync_failed: {
    status: 502,
    exit: EXIT.failed,
    hint: 'Look at the remote and its credentials; it is tried again.',
  },
  sync_auth: { status: 502, exit: EXIT.failed, hint: 'Renew the remote’s credentials.' },
  sync_quota: { status: 507, exit: EXIT.failed, hint: 'Make room on the remote.' },
  sync_config: { status: 422, exit: EXIT.refused, hint: 'Correct the remote under remotes.' },
  sync_late: { status: 500, exit: EXIT.failed, hint: 'Run it now: agentctl sync NAME --now.' },
  checkpoint_changed: {
    status: 409,
    exit: EXIT.failed,
    hint: 'The checkpoint changed on the box; pull it again.',
  },

  // providers
  provider_key: {
    status: 502,
    exit: EXIT.notAuthenticated,
    hint: 'Set VAST_API_KEY or RUNPOD_API_KEY to a key of your account.',
  },
  provider_failed: {
    status: 502,
    exit: EXIT.failed,
    hint: 'Try again later; agentctl boxes shows what is rented.',
  },
  stop_unconfirmed: {
    status: 502,
    exit: EXIT.failed,
    hint: 'It may go on costing money: stop it by hand on the provider’s own page.',
  },
  no_offer: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Allow another GPU, a higher price or a smaller disk; nothing was rented.',
  },
  instance_failed: { status: 502, exit: EXIT.failed, hint: 'Rent another one: run agentctl up again.' },
  not_synced: {
    status: 409,
    exit: EXIT.refused,
    hint: 'Let it sync (agentctl sync --now), or give it up with --lose-data.',
  },

  // what an audit finds
  public_listener: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Bind it to 127.0.0.1 and reach it with agentctl open, or put a login before it.',
  },
  secret_exposed: {
    status: 500,
    exit: EXIT.failed,
    hint: 'Take it out of there, make a new one, and give it with agentctl secret set NAME.',
  },
  file_exposed: { status: 500, exit: EXIT.failed, hint: 'Close it to other users: chmod 600.' },
  // budget and notifications
  no_way_to_stop: {
    status: 422,
    exit: EXIT.refused,
    hint: 'Give budget.stop.command, or use on_limit: notify.',
  },
  no_price: { status: 422, exit: EXIT.refused, hint: 'Give budget.rate_usd_per_hour, or use max_hours.' },
  budget_exceeded: { status: 422, exit: EXIT.refused, hint: 'Extend it: agentctl budget extend 2h or 5usd.' },
  stop_failed: {
    status: 502,
    exit: EXIT.failed,
    hint: 'It is tried again, and goes on costing money: stop it by hand on the provider’s own page.',
  },
  notify_failed: { status: 502, exit: EXIT.failed, hint: 'Check the address under notify.webhook.' },

  // the agent's own state
  already_running: {
    status: 409,
    exit: EXIT.busy,
    hint: 'One agent a home; stop the other or use another --home.',
  },
  home_unusable: { status: 500, exit: EXIT.refused, hint: 'Choose a --home that this user may write.' },
  state_too_new: {
    status: 500,
    exit: EXIT.refused,
    hint: 'Start the newer version of agentd that wrote this state; nothing was changed.',
  },
  state_damaged: { status: 500, exit: EXIT.failed, hint: 'The damaged file was kept beside the new one.' },
  cancelled: { status: 409, exit: EXIT.failed, hint: 'Apply again to go on.' },
  interrupted: {
    status: 503,
    exit: EXIT.failed,
    hint: 'The agent is stopping; its work goes on at the next start.',
  },
} as const satisfies Record<string, CodeEntry>

export type ErrorCode = keyof typeof ERROR_CODES

export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(ERROR_CODES, code)

/** A failure a person can meet: what failed (message), and what to do next (hint). */
export class AgentError extends Error {
  readonly code: ErrorCode
  readonly hint: string
  readonly problems: readonly Problem[] | undefined

  /**
   * @param message what failed, with the value: “sources: HTTP 404 from hf://a/b@main/c”
   * @param options.hint what to do next; by default the hint of the code
   * @param options.problems the single causes, where there are several
   */
  constructor(
    code: ErrorCode,
    message: string,
    options: { hint?: string; cause?: unknown; problems?: readonly Problem[] } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AgentError'
    this.code = code
    this.hint = options.hint ?? ERROR_CODES[code].hint
    this.problems = options.problems
  }
}

/** One thing wrong. `subject` is the thing's own name; `subjects` are others with the same cause. */
export type Problem = {
  readonly code: ErrorCode
  readonly severity: 'error' | 'warning'
  readonly subject: string
  readonly subjects?: readonly string[]
  readonly at?: { readonly file: string; readonly line: number; readonly column: number }
  readonly message: string
  readonly hint: string
}

/** A problem from an error, for records that outlive the exception. */
export const problemFrom = (
  error: unknown,
  subject: string,
  severity: Problem['severity'] = 'error',
): Problem => {
  if (error instanceof AgentError)
    return { code: error.code, severity, subject, message: error.message, hint: error.hint }
  return {
    code: 'internal',
    severity,
    subject,
    message: error instanceof Error ? error.message : String(error),
    hint: ERROR_CODES.internal.hint,
  }
}
