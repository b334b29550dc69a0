// A reporter for `node --test`: one line, how many tests passed and how many failed.
import type { TestEvent } from 'node:test/reporters';

export default async function* count(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const { type, data } of events) {
    if (type !== 'test:summary' || data.file !== undefined) continue;
    const { tests, passed, skipped, todo } = data.counts;
    yield `${passed} ${tests - passed - skipped - todo}\n`;
  }
}
