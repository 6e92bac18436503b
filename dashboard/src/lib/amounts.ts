// Quantities of the API as numbers, and numbers as people read them. Pure.
const UNITS: Record<string, number> = {
  n: 1e-9, u: 1e-6, m: 1e-3, '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18,
  Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50, Ei: 2 ** 60,
};

export function quantity(text: unknown): number {
  if (text === undefined || text === null) return 0;
  const match = /^([+-]?[\d.]+)(?:[eE]([+-]?\d+))?([a-zA-Z]*)$/.exec(String(text));
  if (!match) return 0;
  return Number(match[1]) * 10 ** Number(match[2] ?? 0) * (UNITS[match[3]] ?? 1);
}

export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) ((n /= 1024), i++);
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

export const cores = (n: number) => (n === 0 ? '0' : n < 1 ? `${Math.round(n * 1000)}m` : n.toFixed(n < 10 ? 2 : 1).replace(/\.?0+$/, ''));

export function amount(resource: string, value: number): string {
  if (resource === 'cpu') return cores(value);
  return /memory|storage|hugepages/.test(resource) ? bytes(value) : String(Math.round(value));
}
