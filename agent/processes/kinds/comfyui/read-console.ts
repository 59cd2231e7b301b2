/*
 * What the console of a ComfyUI says that its API does not: how far a job has come that a browser sent (its messages
 * go to that browser alone), and an error of CUDA after which every later job fails, though the server answers.
 */

export type ConsoleNews = {
  /** Steps of the progress bar that moved last. */
  readonly progress: { readonly done: number; readonly total: number } | null
  /** The error's own words. */
  readonly fault: string | null
}

/** tqdm's bar: ` 45%|####5     | 9/20 [00:03<00:04,  2.91it/s]`. */
const PROGRESS = /\d{1,3}%\|[^|]*\| *(\d+)\/(\d+) \[/

/**
 * Errors that leave the CUDA context of the process unusable (CUDA runtime API, cudaError: each “must be terminated
 * and relaunched”). Memory that ran out, or an invalid argument, is over with its job and is none of them.
 */
const FAULT =
  /\b(?:CUDA|HIP)\b.{0,80}?(an illegal memory access was encountered|an illegal instruction was encountered|device-side assert triggered|misaligned address|unspecified launch failure|unspecified launch timeout|the launch timed out and was terminated|hardware stack error|operation not supported on global\/shared address space|invalid program counter|uncorrectable (?:NVLink )?(?:ECC )?error encountered)/

/** Reads plain text, which may end within a line. Pure. */
export const readConsole = (text: string): ConsoleNews => {
  let progress: ConsoleNews['progress'] = null
  let fault: string | null = null
  for (const line of text.split('\n')) {
    const step = PROGRESS.exec(line)
    if (step) progress = { done: Number(step[1]), total: Number(step[2]) }
    fault ??= FAULT.exec(line)?.[1] ?? null
  }
  return { progress, fault }
}
