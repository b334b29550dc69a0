// Random cases, as many as TORTURE says, from a printed seed: `SEED=… scripts/test FILE` repeats the same ones.
import type { TestContext } from 'node:test';
import fc from 'fast-check';
import { TORTURE } from './torture.ts';

const SEED = process.env.SEED;

function tell(t: TestContext, runs: number): { seed: number; numRuns: number } {
  const seed = SEED === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(SEED);
  const numRuns = runs * TORTURE;
  t.diagnostic(`${numRuns} cases, SEED=${seed}`);
  return { seed, numRuns };
}

/** Asserts a property of so many random cases in the normal run; what fails is made as small as can be. */
export async function holds<T>(
  t: TestContext,
  runs: number,
  cases: fc.Arbitrary<T>,
  property: (one: T) => void | Promise<void>,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(cases, async (one) => property(one)),
    tell(t, runs),
  );
}

/** Random cases, to be tried all at once. */
export function casesOf<T>(t: TestContext, runs: number, cases: fc.Arbitrary<T>): T[] {
  return fc.sample(cases, tell(t, runs));
}
