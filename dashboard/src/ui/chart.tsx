// A chart over time. uPlot draws; the numbers are in a table for who does not see it.
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useEffect, useRef } from 'preact/hooks';
import { dark } from '../lib/state';

export interface Series {
  label: string;
  values: (number | null)[];
}

const COLOURS = { light: ['#0f766e', '#2563eb', '#9333ea', '#b45309', '#be123c', '#4d7c0f', '#0e7490', '#7c3aed'], dark: ['#2dd4bf', '#7db1ff', '#c084fc', '#fbbf24', '#fb7185', '#a3e635', '#22d3ee', '#a78bfa'] };

export function Chart({ times, series, format, label, height = 170 }: { times: number[]; series: Series[]; format: (value: number) => string; label: string; height?: number }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shape = `${series.map((each) => each.label).join('|')}${dark.value}`;
  const data = [times, ...series.map((each) => each.values)] as uPlot.AlignedData;
  useEffect(() => {
    const colours = COLOURS[dark.value ? 'dark' : 'light'];
    const style = getComputedStyle(box.current!);
    const grid = { stroke: dark.value ? '#262d38' : '#e9ebef', width: 1 };
    const axis = { stroke: style.color, grid, ticks: { show: false }, font: '11px system-ui' };
    plot.current = new uPlot(
      {
        width: Math.max(200, box.current!.clientWidth),
        height,
        legend: { live: true },
        cursor: { points: { size: 6 } },
        scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? high * 1.12 : 1] } },
        axes: [{ ...axis }, { ...axis, size: 70, values: (_, ticks) => ticks.map(format) }],
        series: [{ value: (_, t) => (t ? new Date(t * 1000).toLocaleTimeString() : '') }, ...series.map((each, i) => ({ label: each.label, stroke: colours[i % colours.length], width: 1.8, fill: series.length === 1 ? `${colours[0]}1f` : undefined, points: { show: times.length < 3 }, value: (_: uPlot, v: number | null) => (v === null || v === undefined ? '' : format(v)) }))],
      },
      data,
      box.current!,
    );
    const observer = new ResizeObserver(() => box.current && plot.current?.setSize({ width: box.current.clientWidth, height }));
    observer.observe(box.current!);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
  }, [shape]);
  useEffect(() => {
    plot.current?.setData(data);
    plot.current?.setLegend({ idx: times.length - 1 }, false);
  }, [shape, times.at(-1), times.length, series.map((each) => each.values.at(-1)).join()]);
  const latest = series.map((each) => `${each.label} ${each.values.at(-1) === null || each.values.at(-1) === undefined ? 'unknown' : format(each.values.at(-1)!)}`).join(', ');
  return <div class="chart dim" ref={box} role="img" aria-label={`${label}: now ${latest}`} />;
}
