// The little that libraries use of modules which take long to load (see scripts/bundle.ts).

/** Of worker_threads, for write-file-atomic: this is the main thread. */
export const threadId = 0;

/** Of assert, for signal-exit: checks that its argument is a function. */
export function equal(_actual: unknown, _expected: unknown, _message: string): void {}
