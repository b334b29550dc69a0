/** Texts in columns, in the width that a terminal shows: a Chinese character takes two cells, a combining mark none. */

type WidthOf = (text: string) => number;

const PLAIN = /^[\x20-\x7e]*$/;
const GAP = '  ';

/** A line for each row, cut to `columns`; the first is the heading. */
export async function tableLines(rows: readonly (readonly string[])[], columns: number): Promise<string[]> {
  const isPlain = rows.every((row) => row.every((cell) => PLAIN.test(cell)));
  const widthOf = isPlain ? (text: string) => text.length : await measure();
  const widths = (rows[0] ?? []).map((_, column) =>
    rows.reduce((most, row) => Math.max(most, widthOf(row[column] ?? '')), 0),
  );
  return rows.map((row) => {
    const padded = row.map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell)));
    return cut(padded.join(GAP).trimEnd(), columns, widthOf);
  });
}

/** Loaded on demand: it makes an Intl.Segmenter, which takes as long as printing thousands of plain lines. */
async function measure(): Promise<WidthOf> {
  const { default: stringWidth } = await import('string-width');
  return (text) => (PLAIN.test(text) ? text.length : stringWidth(text));
}

function cut(line: string, columns: number, widthOf: WidthOf): string {
  if (widthOf(line) <= columns) return line;
  if (PLAIN.test(line)) return line.slice(0, columns);
  let width = 0;
  let end = 0;
  for (const { segment } of new Intl.Segmenter().segment(line)) {
    width += widthOf(segment);
    if (width > columns) break;
    end += segment.length;
  }
  return line.slice(0, end);
}
