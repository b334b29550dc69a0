// For signal-exit in proper-lockfile and write-file-atomic (see tools/bundle.ts): nothing is done at a signal. What
// banctl does under a lock it does in one go, in which no handler could run; what a killed call leaves behind is the
// next one's to clear away (see src/system/lock.ts), whatever the signal was.
const removeHook = (): void => {};
const onExit = (_hook: () => void): (() => void) => removeHook;

// As one version of it exports it, and as the other does.
module.exports = Object.assign(onExit, { onExit });
