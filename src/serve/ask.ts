import { connect } from 'node:net';
import { PROTOCOL } from './protocol.ts';

/** How long an audit waits for the server. */
const LIMIT_MS = 2000;

/** The metrics of the server at the socket: lines in Prometheus' text format. Undefined: no server answers there. */
export function askMetrics(path: string): Promise<readonly string[] | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    let text = '';
    const end = (metrics: readonly string[] | undefined) => {
      clearTimeout(limit);
      socket.destroy();
      resolve(metrics);
    };
    const limit = setTimeout(() => end(undefined), LIMIT_MS);
    socket.on('error', () => end(undefined));
    socket.on('close', () => end(undefined));
    socket.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
      const [, answer] = text.split('\n').slice(0, -1);
      if (answer !== undefined) end(metricsIn(answer));
    });
    socket.write(`${JSON.stringify({ banctl: PROTOCOL })}\n${JSON.stringify({ id: 1, do: 'status' })}\n`);
  });
}

function metricsIn(answer: string): readonly string[] | undefined {
  try {
    const { said }: { said?: unknown } = JSON.parse(answer);
    return typeof said === 'string' ? said.split('\n') : undefined;
  } catch {
    return undefined;
  }
}
