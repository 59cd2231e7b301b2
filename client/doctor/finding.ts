/** One look at this machine's set-up; `fix` is null when nothing is wrong. */
export type Finding = { readonly check: string; readonly detail: string; readonly fix: string | null }
