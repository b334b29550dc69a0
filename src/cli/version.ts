/** Set from package.json when the executable is built. */
export const VERSION: string = process.env.BANCTL_VERSION ?? 'unbuilt';
