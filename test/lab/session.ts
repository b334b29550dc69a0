// A recorded terminal session in a page of Markdown: what is typed after a prompt, and below it what is said.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import type { PrivateRoot } from './private-root.ts';
import { until } from './wait.ts';

/** Where the lines of a prompt are typed: undefined is the server, else the address that the requests come from. */
type Prompts = Record<string, string | undefined>;

/** Lines that only ask: their answer may take a moment to become true. */
const ASKS = /^(?:curl|cat|find|banctl (?:list|explain|audit)) /;

/**
 * Types every line of the page's console blocks, and fails the test where something else is said than is recorded, or
 * is not said within 20 seconds where the line only asks. With RECORD=1 in the environment, the page is written anew.
 */
export async function repeatSession(page: string, root: PrivateRoot, prompts: Prompts): Promise<void> {
  const isRecording = process.env.RECORD === '1';
  const text = readFileSync(page, 'utf8');
  const recorded: string[] = [];
  for (const [index, block] of text.split(/(?<=^```console\n)|(?=^```$)/m).entries()) {
    const isConsole = index % 2 === 1 && /^\w+[#$] /.test(block);
    recorded.push(isConsole ? await repeatBlock(block, { root, prompts, isRecording }) : block);
  }
  if (isRecording) writeFileSync(page, recorded.join(''));
}

async function repeatBlock(
  block: string,
  { root, prompts, isRecording }: { root: PrivateRoot; prompts: Prompts; isRecording: boolean },
): Promise<string> {
  const steps = block.split(/^(?=\w+[#$] )/m);
  let typed = '';
  for (const step of steps) {
    const [, prompt = '', line = '', wanted = ''] = /^(\w+)[#$] ([^\n]*)\n(.*)$/s.exec(step) ?? [];
    assert.ok(prompt in prompts, `no such prompt: ${step}`);
    const type = async () => {
      const { stdout, stderr } = await root.run(line, prompts[prompt]);
      return withoutNoise(stdout + stderr);
    };
    let said = '';
    if (isRecording && ASKS.test(line)) await new Promise((resolve) => setTimeout(resolve, 4000));
    if (isRecording || !ASKS.test(line)) said = await type();
    else
      await until(
        `${line} to say\n${wanted}`,
        async () => {
          said = await type();
          return lasting(said) === lasting(wanted);
        },
        { detail: () => `it said\n${said}` },
      ).catch(() => {});
    if (!isRecording) assert.equal(lasting(said), lasting(wanted), line);
    typed += `${step.split('\n', 1)[0]}\n${said}`;
  }
  return typed;
}

/** Parts that depend on the machine or on the speed of typing, and say nothing to a reader. */
function withoutNoise(said: string): string {
  return said
    .split('\n')
    .filter(
      (line) =>
        !/^\(Reading database|WARNING 'allowipv6'|^invoke-rc\.d: could not determine|^Processing triggers|^apache reloads within/.test(
          line,
        ),
    )
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Without what is another one each time: times, what is left of them, and versions. */
function lasting(said: string): string {
  return said
    .replaceAll(/\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\dZ)?/g, 'TIME')
    .replaceAll(/\b(?:1h|\d+m)(?: \d+[ms])?\b/g, 'LEFT')
    .replaceAll(/ +/g, ' ')
    .replaceAll(/(?<=banctl[_ ]\(?)\d+\.\d+\.\d+/g, 'VERSION');
}
