// A reporter for `node --test`: one line with the numbers of passed and failed tests.
import type { TestEvent } from 'node:test/reporters';

export default async function* count(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if (type !== 'test:summary' || data.file !== undefined) continue;
    const { tests, passed, skipped, todo } = data.counts;
    yield `${passed} ${tests - passed - skipped - todo}\n`;
  }
}
