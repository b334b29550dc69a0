import { BarChart, HeatmapChart } from 'echarts/charts';
import { GridComponent, VisualMapComponent } from 'echarts/components';
import { type EChartsCoreOption, init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { formatTime } from '../bans/hold.ts';
import type { ReportDocument } from './types.ts';

/*
 * The charts, as SVG inside the page. Their colours are the page's variables, which follow dark mode. They contain nothing
 * that a strict Content-Security-Policy would refuse.
 */

use([BarChart, HeatmapChart, GridComponent, VisualMapComponent, SVGRenderer]);

/** The number of jails that a chart distinguishes; it combines the others. */
const MOST_SERIES = 6;
const MOST_ROWS = 8;
const MOST_BUCKETS = 5000;
const OTHERS = 'others';
const INK = 'var(--dim)';
const RULE = 'var(--rule)';
const FONT = { color: INK, fontSize: 11 };

export interface Series {
  readonly name: string;
  /** A class in the page's style sheet. */
  readonly color: string;
  readonly count: number;
}

/** The jails in the chart of bans over time, with their colours. */
export function seriesOf({ byJail }: ReportDocument['history']): Series[] {
  const named = byJail.slice(0, MOST_SERIES);
  const rest = byJail.slice(MOST_SERIES).reduce((all, { count }) => all + count, 0);
  const all = rest === 0 ? named : [...named, { name: OTHERS, count: rest }];
  return all.map(({ name, count }, index) => ({ name, count, color: `c${index + 1}` }));
}

/** Bans over time: one bar for each span of seconds, one colour for each jail. */
export function timeChart(document: ReportDocument, width: number, bucketSeconds: number): string {
  const { history } = document;
  const begins = bucketBegins(document, bucketSeconds);
  const index = new Map(begins.map((begin, at) => [begin, at]));
  const series = seriesOf(history);
  const counts = series.map(() => Array<number>(begins.length).fill(0));
  for (const { from, byJail } of history.buckets) {
    const at = index.get(beginOf(Date.parse(from) / 1000, bucketSeconds));
    for (const { name, count } of byJail) {
      const row =
        counts[
          Math.min(
            history.byJail.findIndex((jail) => jail.name === name),
            series.length - 1,
          )
        ];
      if (at !== undefined && row !== undefined) row[at] = (row[at] ?? 0) + count;
    }
  }
  return draw(width, 220, {
    grid: { left: 0, right: 4, top: 12, bottom: 0 },
    xAxis: {
      type: 'category',
      data: begins,
      axisTick: { show: false },
      axisLine: { lineStyle: { color: RULE } },
      axisLabel: { ...FONT, interval: 0, formatter: labelEvery(begins, Math.max(2, Math.floor(width / 90))) },
    },
    yAxis: {
      type: 'value',
      minInterval: 1,
      splitNumber: 3,
      axisLabel: FONT,
      splitLine: { lineStyle: { color: RULE } },
    },
    series: series.map(({ color }, at) => ({
      type: 'bar',
      stack: 'bans',
      barCategoryGap: '12%',
      itemStyle: { color: `var(--${color})` },
      data: counts[at],
    })),
  });
}

/** By hour of the day: a row for each jail, darker for more bans. */
export function hourChart({ history }: ReportDocument, width: number): string {
  const rows = history.byHour.slice(0, MOST_ROWS);
  const most = Math.max(1, ...rows.flatMap(({ counts }) => counts));
  const shorten = (name: string) => (name.length > 16 ? `${name.slice(0, 15)}…` : name);
  return draw(width, 40 + rows.length * 26, {
    grid: { left: 28, right: 2, top: 4, bottom: 0 },
    xAxis: {
      type: 'category',
      data: Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, '0')),
      axisTick: { show: false },
      axisLine: { show: false },
      axisLabel: { ...FONT, interval: width < 500 ? 5 : 2 },
    },
    yAxis: {
      type: 'category',
      inverse: true,
      // Two jails may be shortened to the same name, which would be one category.
      data: rows.map((_, at) => String(at)),
      axisTick: { show: false },
      axisLine: { show: false },
      axisLabel: { ...FONT, formatter: (at: string) => shorten(rows[Number(at)]?.jail ?? '') },
    },
    visualMap: { show: false, min: 0, max: most, inRange: { opacity: [1, 1] } },
    series: [
      {
        type: 'heatmap',
        data: rows.flatMap(({ counts }, row) =>
          counts.map((count, hour) => ({
            value: [hour, row, count],
            itemStyle: {
              color: count === 0 ? 'var(--well)' : 'var(--c1)',
              opacity: count === 0 ? 1 : 0.2 + 0.8 * (count / most),
              borderColor: 'var(--paper)',
              borderWidth: 2,
            },
          })),
        ),
      },
    ],
  });
}

/** A label at the first bucket of a day, only for as many days as fit. */
function labelEvery(begins: readonly string[], most: number): (begin: string) => string {
  const firsts = begins.filter((begin) => begin.endsWith('T00:00:00Z'));
  const step = Math.max(1, Math.ceil(firsts.length / most));
  const shown = new Set(firsts.filter((_, index) => index % step === 0));
  return (begin) => (shown.has(begin) ? begin.slice(5, 10) : '');
}

/** Buckets without bans have a place too. */
function bucketBegins({ since, generated }: ReportDocument, bucketSeconds: number): string[] {
  const [first, last] = [since, generated].map((time) => Math.floor(Date.parse(time) / 1000 / bucketSeconds));
  const count = Math.min((last ?? 0) - (first ?? 0) + 1, MOST_BUCKETS);
  return Array.from({ length: count }, (_, at) => formatTime(((first ?? 0) + at) * bucketSeconds));
}

function beginOf(seconds: number, bucketSeconds: number): string {
  return formatTime(Math.floor(seconds / bucketSeconds) * bucketSeconds);
}

function draw(width: number, height: number, option: EChartsCoreOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({ animation: false, textStyle: { fontFamily: 'inherit' }, ...option });
    return plainSvg(chart.renderToSVGString(), width, height);
  } finally {
    // Otherwise it would keep the process alive.
    chart.dispose();
  }
}

/** Removes styles, marks for scripts and mouse handling; the page itself names and describes the chart. */
function plainSvg(svg: string, width: number, height: number): string {
  return svg
    .replace(/<style[\s\S]*?<\/style>/g, '')
    .replace(
      /^<svg[^>]*>/,
      `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" aria-hidden="true" focusable="false">`,
    )
    .replace(/ style="[^"]*"/g, '')
    .replace(/ (?:class|ecmeta_\w+|pointer-events)="[^"]*"/g, '');
}
