/** Stands in for worker_threads in write-file-atomic (see tools/bundle.ts): this is the main thread. */
export const threadId = 0;
