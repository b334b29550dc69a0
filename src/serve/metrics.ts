import type { ServedCommand } from './protocol.ts';

/** Upper bounds of the histogram, in seconds. */
const BOUNDS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5];

/** The resident's counters since its start. */
export class Metrics {
  readonly #requests = new Map<string, number>();
  readonly #buckets: number[] = BOUNDS.map(() => 0);
  #count = 0;
  #seconds = 0;
  #fallbacks = 0;

  answered(command: ServedCommand, exit: number, seconds: number): void {
    const labels = `command="${command}",exit="${exit}"`;
    this.#requests.set(labels, (this.#requests.get(labels) ?? 0) + 1);
    this.#count += 1;
    this.#seconds += seconds;
    BOUNDS.forEach((bound, index) => {
      if (seconds <= bound) this.#buckets[index] = (this.#buckets[index] ?? 0) + 1;
    });
  }

  fellBack(times: number): void {
    this.#fallbacks += times;
  }

  /** Lines in Prometheus' text format, without the final newline. */
  format(): string[] {
    const histogram = 'banctl_serve_request_seconds';
    return [
      '# HELP banctl_serve_requests_total Requests that banctl serve has answered, by command and exit code.',
      '# TYPE banctl_serve_requests_total counter',
      ...[...this.#requests].map(([labels, count]) => `banctl_serve_requests_total{${labels}} ${count}`),
      `# HELP ${histogram} Seconds from a request to its answer.`,
      `# TYPE ${histogram} histogram`,
      ...BOUNDS.map((bound, index) => `${histogram}_bucket{le="${bound}"} ${this.#buckets[index] ?? 0}`),
      `${histogram}_bucket{le="+Inf"} ${this.#count}`,
      `${histogram}_sum ${this.#seconds}`,
      `${histogram}_count ${this.#count}`,
      '# HELP banctl_serve_fallbacks_total Changes for which the Python action ran the executable.',
      '# TYPE banctl_serve_fallbacks_total counter',
      `banctl_serve_fallbacks_total ${this.#fallbacks}`,
    ];
  }
}
