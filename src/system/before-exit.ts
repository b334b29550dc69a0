let unfinished: Promise<unknown> | undefined;

/** What a call has begun and must not end before; its output and its locks do not wait for it. */
export function finishBeforeExit(work: Promise<unknown>): void {
  unfinished = Promise.all([unfinished, work]);
}

export async function finished(): Promise<void> {
  await unfinished;
}
