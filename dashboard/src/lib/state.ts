// What the whole page shares: where we are (in the address, so that it can be shared and goes back), namespace, theme.
import { computed, effect, signal } from '@preact/signals';

export const route = signal(location.hash.slice(1) || '/');
window.addEventListener('hashchange', () => (route.value = location.hash.slice(1) || '/'));

export const go = (path: string) => {
  location.hash = path;
};

export const here = computed(() => {
  const [path, query = ''] = route.value.split('?');
  return { parts: path.split('/').filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
});

export function setQuery(name: string, value: string) {
  const [path, query = ''] = route.value.split('?');
  const asked = new URLSearchParams(query);
  if (value) asked.set(name, value);
  else asked.delete(name);
  const text = asked.toString();
  history.replaceState(null, '', `#${path}${text ? `?${text}` : ''}`);
  route.value = location.hash.slice(1);
}

const stored = (name: string) => localStorage.getItem(`tiphys.${name}`) ?? '';
const kept = (name: string, initial = '') => {
  const value = signal(stored(name) || initial);
  effect(() => localStorage.setItem(`tiphys.${name}`, value.value));
  return value;
};

export const namespace = kept('namespace');
export const theme = kept('theme', 'auto');
export const wide = kept('wide');
effect(() => {
  document.documentElement.dataset.theme = theme.value;
});

export const dark = computed(() => theme.value === 'dark' || (theme.value === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches));

export interface Toast {
  id: number;
  text: string;
  tone: 'good' | 'bad' | '';
}
export const toasts = signal<Toast[]>([]);
let last = 0;
export function say(text: string, tone: Toast['tone'] = 'good') {
  const toast = { id: ++last, text, tone };
  toasts.value = [...toasts.value.slice(-3), toast];
  setTimeout(() => (toasts.value = toasts.value.filter((each) => each !== toast)), tone === 'bad' ? 12000 : 5000);
}

export async function attempt(what: string, action: () => Promise<unknown>): Promise<boolean> {
  try {
    await action();
    say(what);
    return true;
  } catch (error) {
    say((error as Error).message, 'bad');
    return false;
  }
}

export const detailPath = (id: string, ns: string, name: string) => `/o/${id}/${encodeURIComponent(ns || '-')}/${encodeURIComponent(name)}`;
export const listPath = (id: string) => `/r/${id}`;
