/** For worker_threads in write-file-atomic (see scripts/bundle.ts): this is the main thread. */
export const threadId = 0;
