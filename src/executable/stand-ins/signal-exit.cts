// Stands in for signal-exit in proper-lockfile and write-file-atomic (see tools/bundle.ts), and does nothing. Code under a
// lock is synchronous, so no handler could run in it. The next call removes what a killed call leaves behind (see
// src/system/takeover.ts), whatever the signal was.
const removeHook = (): void => {};
const onExit = (_hook: () => void): (() => void) => removeHook;

// Both export forms: one for each version of signal-exit that the libraries use.
module.exports = Object.assign(onExit, { onExit });
