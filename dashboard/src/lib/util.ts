// Small things that many views use: times, quantities, names, YAML.
import { signal } from '@preact/signals';
import { parseDocument, stringify } from 'yaml';
import type { Obj } from './api';

export const enc = encodeURIComponent;
export const now = signal(Date.now());
setInterval(() => (now.value = Date.now()), 5000);

export function duration(ms: number): string {
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 120) return s < 10 ? `${(ms / 1000).toFixed(1)} s` : `${s}s`;
  const m = Math.floor(s / 60);
  if (m < 10) return s % 60 ? `${m}m${s % 60}s` : `${m}m`;
  if (m < 180) return `${m}m`;
  const h = Math.floor(m / 60);
  if (h < 8) return m % 60 ? `${h}h${m % 60}m` : `${h}h`;
  if (h < 48) return `${h}h`;
  const d = Math.floor(h / 24);
  if (d < 8) return h % 24 ? `${d}d${h % 24}h` : `${d}d`;
  if (d < 730) return `${d}d`;
  return `${Math.floor(d / 365)}y`;
}

// As kubectl shows ages: no tenths.
export const age = (time?: string, at = now.value) => {
  if (!time) return '–';
  const ms = at - Date.parse(time);
  return ms < 10000 ? `${Math.max(0, Math.floor(ms / 1000))}s` : duration(ms);
};

export const clock = (time?: string) => (time ? new Date(time).toLocaleString() : '');

export function toYAML(obj: Obj): string {
  return stringify(obj, { lineWidth: 0, aliasDuplicateObjects: false });
}

// The documents of a text. Throws with line and column.
export function fromYAML(text: string): Obj[] {
  return text
    .split(/^---\s*$/m)
    .map((part) => {
      const document = parseDocument(part, { schema: 'core', maxAliasCount: 100 } as object);
      if (document.errors.length) throw new Error(document.errors[0].message.split('\n')[0]);
      return document.toJS();
    })
    .filter((obj) => obj !== null && obj !== undefined);
}

export function withoutManaged(obj: Obj): Obj {
  const { managedFields: _, ...metadata } = obj.metadata ?? {};
  return { ...obj, metadata };
}

export const equal = (a: unknown, b: unknown): boolean => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

function sorted(value: any): any {
  if (Array.isArray(value)) return value.map(sorted);
  if (value && typeof value === 'object')
    return Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])]));
  return value;
}

// What somebody changed from `base` to `mine`, on top of `theirs`. Names the fields that both changed differently.
export function merge3(base: any, mine: any, theirs: any, path = '', conflicts: string[] = []): { value: any; conflicts: string[] } {
  if (equal(mine, base) || equal(mine, theirs)) return { value: theirs, conflicts };
  if (equal(theirs, base)) return { value: mine, conflicts };
  const maps = [mine, theirs].every((each) => each && typeof each === 'object' && !Array.isArray(each));
  if (!maps) {
    conflicts.push(path || '.');
    return { value: mine, conflicts };
  }
  const value: any = {};
  for (const name of new Set([...Object.keys(theirs), ...Object.keys(mine)])) {
    const merged = merge3(base?.[name], mine[name], theirs[name], path ? `${path}.${name}` : name, conflicts).value;
    if (merged !== undefined) value[name] = merged;
  }
  return { value, conflicts };
}

export function download(name: string, data: BlobPart, type = 'application/octet-stream') {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([data], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const GOOD = /^(running|ready|bound|active|true|succeeded|completed?|available|healthy|established|normal|approved(,issued)?|deployed|up)$/i;
const BAD = /(error|crashloop|failed|evicted|backoff|invalid|oomkilled|lost|denied|notready|unknown|cannotrun|errimage|unschedulable|^false|warning|stalled)/i;
const WAITS = /(pending|creating|terminating|initializing|^init|waiting|released|scalingup|progressing|suspended|schedulingdisabled|unavailable|notfound)/i;

export function tone(text: string): 'good' | 'bad' | 'wait' | '' {
  if (BAD.test(text)) return 'bad';
  if (WAITS.test(text)) return 'wait';
  return GOOD.test(text) ? 'good' : '';
}

export const plural = (count: number, word: string) => `${count} ${word}${count === 1 ? '' : 's'}`;
