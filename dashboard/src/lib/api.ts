// The way to the API server: requests, streams and the session. Every request carries the session's key, which lives in
// this tab only; a new tab asks the tabs that are open for it.
import { signal } from '@preact/signals';

export type Obj = any;

export interface Status {
  code?: number;
  reason?: string;
  message?: string;
  details?: { causes?: { field?: string; message?: string }[]; retryAfterSeconds?: number };
}

export class ApiError extends Error {
  code: number;
  status: Status;
  constructor(code: number, status: Status) {
    super(status.message || `the server answered ${code}`);
    this.code = code;
    this.status = status;
  }
}

const KEY = 'tiphys.key';
let key = sessionStorage.getItem(KEY) ?? '';
export const signedIn = signal<boolean | undefined>(undefined);
export const whoAmI = signal<{ username: string; groups: string[] }>({ username: '', groups: [] });
export const reachable = signal(true);
export const byCode = signal(false);

const tabs = new BroadcastChannel('tiphys');
tabs.onmessage = (event) => {
  if (event.data === 'key?' && key) tabs.postMessage({ key });
  else if (event.data === 'out') forget();
};

function otherTabsKey(): Promise<string> {
  return new Promise((resolve) => {
    const channel = new BroadcastChannel('tiphys');
    const end = (answer: string) => (channel.close(), resolve(answer));
    channel.onmessage = (event) => event.data?.key && end(event.data.key);
    channel.postMessage('key?');
    setTimeout(() => end(''), 1000);
  });
}

function remember(value: string) {
  key = value;
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

function forget() {
  remember('');
  signedIn.value = false;
}

export async function resume() {
  if (!key) remember(await otherTabsKey());
  const answer = await fetch('/session', { headers: { 'x-tiphys-key': key } });
  const state = await answer.json();
  byCode.value = state.byCode;
  if (state.open) await enter();
  else forget();
}

async function enter() {
  const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
  try {
    whoAmI.value = (await post('/apis/authentication.k8s.io/v1/selfsubjectreviews', review)).status.userInfo;
  } catch (error) {
    if (error instanceof ApiError && error.code === 401) return;
    whoAmI.value = { username: 'unknown', groups: [] };
  }
  signedIn.value = true;
}

export async function logIn(words: { token?: string; code?: string }) {
  const answer = await fetch('/session', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(words),
  });
  const body = await answer.json();
  if (!answer.ok) throw new ApiError(answer.status, body);
  remember(body.key);
  await enter();
}

export async function logOut() {
  await fetch('/session', { method: 'DELETE', headers: { 'x-tiphys-key': key } });
  tabs.postMessage('out');
  forget();
}

interface Options {
  body?: unknown;
  type?: string;
  accept?: string;
  query?: Record<string, string | undefined>;
  text?: boolean;
}

export function url(path: string, query?: Record<string, string | undefined>): string {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) if (value) asked.set(name, value);
  const text = asked.toString();
  return text ? `${path}${path.includes('?') ? '&' : '?'}${text}` : path;
}

export async function request(method: string, path: string, options: Options = {}): Promise<any> {
  const headers: Record<string, string> = { 'x-tiphys-key': key, accept: options.accept ?? 'application/json' };
  let body: string | undefined;
  if (options.body !== undefined) {
    headers['content-type'] = options.type ?? 'application/json';
    body = typeof options.body === 'string' ? options.body : JSON.stringify(options.body);
  }
  let answer: Response;
  try {
    answer = await fetch(`/k8s${url(path, options.query)}`, { method, headers, body });
    reachable.value = answer.status !== 502;
  } catch {
    reachable.value = false;
    throw new ApiError(0, { message: 'the dashboard’s server cannot be reached' });
  }
  const text = await answer.text();
  if (answer.ok) return options.text ? text : text && JSON.parse(text);
  if (answer.status === 401) forget();
  let status: Status = {};
  try {
    status = JSON.parse(text);
  } catch {
    status = { message: text.slice(0, 400) };
  }
  throw new ApiError(answer.status, status);
}

export const get = (path: string, query?: Options['query'], accept?: string) => request('GET', path, { query, accept });
export const post = (path: string, body: unknown, query?: Options['query']) => request('POST', path, { body, query });
export const put = (path: string, body: unknown, query?: Options['query']) => request('PUT', path, { body, query });
export const remove = (path: string, body: unknown) => request('DELETE', path, { body });
export const MERGE = 'application/merge-patch+json';
export const STRATEGIC = 'application/strategic-merge-patch+json';
export const JSON_PATCH = 'application/json-patch+json';
export const patch = (path: string, body: unknown, type = MERGE, query?: Options['query']) =>
  request('PATCH', path, { body, type, query });

export interface StreamEvents {
  open?: () => void;
  text: (text: string) => void;
  end: (error?: ApiError) => void;
}

const socketURL = (path: string) => `${location.origin.replace(/^http/, 'ws')}${path}`;

// A body that goes on: a watch or a log. Returns what closes it.
export function stream(path: string, accept: string, on: StreamEvents): () => void {
  const socket = new WebSocket(socketURL(`/streams${path}`), ['tiphys.stream', `tiphys.key.${key}`]);
  let opened = false;
  let failure: ApiError | undefined;
  let closed = false;
  socket.onopen = () => socket.send(JSON.stringify({ accept }));
  socket.onmessage = (event) => {
    if (closed) return;
    if (opened) return on.text(event.data);
    const head = JSON.parse(event.data);
    if (head.status >= 400) {
      failure = new ApiError(head.status, head.error);
      if (head.status === 401) forget();
    } else {
      opened = true;
      reachable.value = true;
      on.open?.();
    }
  };
  socket.onclose = () => {
    if (closed) return;
    closed = true;
    if (!opened && !failure) failure = new ApiError(0, { message: 'the connection was closed' });
    on.end(failure);
  };
  return () => {
    closed = true;
    socket.close();
  };
}

// A WebSocket to the API server itself, for exec.
export function socket(path: string, protocol: string): WebSocket {
  const made = new WebSocket(socketURL(`/k8s${path}`), [protocol, `tiphys.key.${key}`]);
  made.binaryType = 'arraybuffer';
  return made;
}
