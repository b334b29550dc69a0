/** How many times as long as usual the tests go on that do something at random (scripts/test --torture). */
export const TORTURE = Number(process.env.TORTURE ?? 1);
