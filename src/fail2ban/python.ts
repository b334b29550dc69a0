/** A value as Python prints it (repr), as far as fail2ban's answers need that. */
export type PythonValue = string | number | boolean | null | PythonValue[] | Map<string, PythonValue>;

const TOKEN =
  /\s*(?:('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)|(\w+)|([[\](){},:]))/suy;
const ESCAPE = /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|(.))/gsu;
const CONTROLS: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t' };
const WORDS: ReadonlyMap<string, PythonValue> = new Map([
  ['None', null],
  ['True', true],
  ['False', false],
]);
const CLOSING: Readonly<Record<string, string>> = { '[': ']', '(': ')', '{': '}' };
/** fail2ban nests four levels at most. Without a bound, a long answer of brackets overflows the stack. */
const DEEPEST = 50;

class NotPython extends Error {}

/** Parses one value that is the whole text; undefined for anything else. */
export function parsePython(text: string): PythonValue | undefined {
  const tokens = tokensOf(text.trim());
  try {
    const value = tokens === undefined ? undefined : readValue(tokens, 0);
    return tokens?.length === 0 ? value : undefined;
  } catch (error) {
    if (error instanceof NotPython) return undefined;
    throw error;
  }
}

/** The value is on top of the stack. */
type Token = { readonly value: PythonValue } | { readonly mark: string };

function tokensOf(text: string): Token[] | undefined {
  const tokens: Token[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const [, quoted, number, word, mark] = TOKEN.exec(text) ?? [];
    if (quoted !== undefined) tokens.push({ value: unescapeText(quoted.slice(1, -1)) });
    else if (number !== undefined) tokens.push({ value: Number(number) });
    else if (word !== undefined && WORDS.has(word)) tokens.push({ value: WORDS.get(word) ?? null });
    else if (mark !== undefined) tokens.push({ mark });
    else return undefined;
  }
  return tokens.reverse();
}

function unescapeText(text: string): string {
  return text.replace(ESCAPE, (_all, byte, short, long, other) => {
    const code = byte ?? short ?? long;
    if (code === undefined) return CONTROLS[other] ?? other;
    const point = Number.parseInt(code, 16);
    return point <= 0x10ffff ? String.fromCodePoint(point) : '\ufffd';
  });
}

function readValue(tokens: Token[], depth: number): PythonValue {
  const token = tokens.pop();
  if (token === undefined || depth > DEEPEST) throw new NotPython();
  if ('value' in token) return token.value;
  const closing = CLOSING[token.mark];
  if (closing === undefined) throw new NotPython();
  return token.mark === '{' ? readDictionary(tokens, depth) : readList(tokens, closing, depth);
}

function readList(tokens: Token[], closing: string, depth: number): PythonValue[] {
  const values: PythonValue[] = [];
  while (!takes(tokens, closing)) {
    values.push(readValue(tokens, depth + 1));
    if (!takes(tokens, ',') && !isNext(tokens, closing)) throw new NotPython();
  }
  return values;
}

function readDictionary(tokens: Token[], depth: number): Map<string, PythonValue> {
  const entries = new Map<string, PythonValue>();
  while (!takes(tokens, '}')) {
    const key = readValue(tokens, depth + 1);
    if (typeof key !== 'string' || !takes(tokens, ':')) throw new NotPython();
    entries.set(key, readValue(tokens, depth + 1));
    if (!takes(tokens, ',') && !isNext(tokens, '}')) throw new NotPython();
  }
  return entries;
}

function isNext(tokens: readonly Token[], mark: string): boolean {
  const next = tokens.at(-1);
  return next !== undefined && 'mark' in next && next.mark === mark;
}

function takes(tokens: Token[], mark: string): boolean {
  if (!isNext(tokens, mark)) return false;
  tokens.pop();
  return true;
}
