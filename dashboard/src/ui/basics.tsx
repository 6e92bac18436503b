// The parts that every view is made of.
import { type Signal, useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import type { ApiError } from '../lib/api';
import { toasts } from '../lib/state';
import { age, clock, tone } from '../lib/util';

const PATHS: Record<string, string> = {
  home: 'M3 11l9-8 9 8M5 10v10h14V10M10 20v-6h4v6',
  pod: 'M12 3l8 4.500v9L12 21l-8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9',
  deploy: 'M4 7h16M4 12h16M4 17h16M8 4v16',
  layers: 'M12 3l9 5-9 5-9-5zM3 13l9 5 9-5',
  job: 'M5 12l4 4L19 6',
  clock: 'M12 3a9 9 0 100 18 9 9 0 000-18zM12 7v5l3 2',
  network: 'M12 4v6M5 20v-4h14v4M12 10v6M10 2h4v4h-4zM3 20h4M17 20h4',
  storage: 'M4 6c0-1.700 3.600-3 8-3s8 1.300 8 3v12c0 1.700-3.600 3-8 3s-8-1.300-8-3zM4 6c0 1.700 3.600 3 8 3s8-1.300 8-3M4 12c0 1.700 3.600 3 8 3s8-1.300 8-3',
  config: 'M4 6h10M18 6h2M4 12h2M10 12h10M4 18h8M16 18h4M16 4v4M8 10v4M14 16v4',
  lock: 'M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 017 0v3',
  node: 'M3 5h18v6H3zM3 13h18v6H3zM7 8h.01M7 16h.01',
  shield: 'M12 3l8 3v6c0 4.500-3.200 7.600-8 9-4.800-1.400-8-4.500-8-9V6z',
  bell: 'M6 16V11a6 6 0 0112 0v5l1.500 2h-15zM10 20h4',
  grid: 'M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z',
  box: 'M4 8l8-4 8 4v8l-8 4-8-4z',
  search: 'M11 4a7 7 0 100 14 7 7 0 000-14zM16 16l5 5',
  plus: 'M12 5v14M5 12h14',
  x: 'M6 6l12 12M18 6L6 18',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  sun: 'M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2',
  moon: 'M20 14.500A8.500 8.500 0 019.500 4a8.500 8.500 0 1010.500 10.500z',
  auto: 'M12 3a9 9 0 100 18 9 9 0 000-18zM12 3v18',
  user: 'M12 4a4 4 0 100 8 4 4 0 000-8zM4 20c1-4 4-6 8-6s7 2 8 6',
  trash: 'M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13',
  edit: 'M4 20h4L19 9l-4-4L4 16z',
  play: 'M7 4l13 8-13 8z',
  pause: 'M8 5v14M16 5v14',
  restart: 'M20 5v5h-5M4 12a8 8 0 0115-4l1 2M4 19v-5h5M20 12a8 8 0 01-15 4l-1-2',
  scale: 'M4 20V10M10 20V4M16 20v-8M22 20H2',
  terminal: 'M4 5h16v14H4zM8 9l3 3-3 3M13 15h4',
  logs: 'M5 4h14v16H5zM9 8h6M9 12h6M9 16h3',
  file: 'M6 3h8l4 4v14H6zM14 3v4h4',
  folder: 'M3 6h6l2 2h10v11H3z',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  upload: 'M12 16V4M7 8l5-5 5 5M5 20h14',
  chart: 'M4 4v16h16M8 15l3-4 3 2 5-7',
  history: 'M4 12a8 8 0 108-8 8 8 0 00-6 3L4 9M4 4v5h5M12 8v4l3 2',
  menu: 'M4 7h16M4 12h16M4 17h16',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  ban: 'M12 3a9 9 0 100 18 9 9 0 000-18zM6 6l12 12',
  drain: 'M4 5h16l-6 8v6l-4-2v-4z',
  up: 'M7 14l5-5 5 5',
  down: 'M7 10l5 5 5-5',
  link: 'M10 14a4 4 0 005.700 0l3-3a4 4 0 00-5.700-5.700l-1 1M14 10a4 4 0 00-5.700 0l-3 3A4 4 0 0011 18.700l1-1',
};

export const Icon = ({ name }: { name: string }) => (
  <svg class="icon" viewBox="0 0 24 24" aria-hidden="true"><path d={PATHS[name] ?? PATHS.box} /></svg>
);

type ButtonProps = Omit<JSX.IntrinsicElements['button'], 'icon'> & { icon?: string; label?: string; kind?: string };

export function Button({ icon, label, kind = '', children, ...rest }: ButtonProps) {
  const only = label && !children ? ' only' : '';
  return (
    <button type="button" {...rest} class={`button ${kind}${only}`} aria-label={only ? label : undefined} title={label}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

export const StatusPill = ({ text }: { text: string }) => <span class={`status ${tone(text)}`}>{text}</span>;

export const Age = ({ time }: { time?: string }) => <time dateTime={time} title={clock(time)}>{age(time)}</time>;

export function Card({ title, extra, children, bare }: { title?: ComponentChildren; extra?: ComponentChildren; children?: ComponentChildren; bare?: boolean }) {
  const id = useId();
  return (
    <section class="card" aria-labelledby={title ? id : undefined}>
      {title && <header><h2 id={id} class="grow">{title}</h2>{extra}</header>}
      {bare ? children : <div class="body">{children}</div>}
    </section>
  );
}

export function Facts({ of }: { of: [string, ComponentChildren][] }) {
  const shown = of.filter(([, value]) => value !== undefined && value !== null && value !== '' && value !== false);
  return <dl class="facts">{shown.map(([name, value]) => [<dt key={`${name}t`}>{name}</dt>, <dd key={name}>{value}</dd>])}</dl>;
}

export const Chips = ({ of }: { of?: Record<string, string> }) => (
  <div class="chips">{Object.entries(of ?? {}).map(([name, value]) => <span class="chip" key={name}>{value === '' ? name : `${name}=${value}`}</span>)}</div>
);

export const Empty = ({ title, children }: { title: string; children?: ComponentChildren }) => (
  <div class="empty"><b>{title}</b>{children}</div>
);

export const Loading = () => <div class="empty" role="status"><span class="spin" /><span class="sr">Loading</span></div>;

export function Failure({ error, what }: { error?: ApiError; what?: string }) {
  if (!error) return null;
  const denied = error.code === 403;
  return (
    <div class={`note ${denied ? 'wait' : 'bad'}`} role="alert">
      <b>{denied ? 'You may not see this' : what ?? 'This cannot be shown'}</b><br />{error.message}
    </div>
  );
}

export function Bar({ label, used, reserved, total, text, scarce }: { label: string; used?: number; reserved?: number; total: number; text: string; scarce?: boolean }) {
  const percent = (value = 0) => `${Math.min(100, total ? (100 * value) / total : 0).toFixed(1)}%`;
  const main = used ?? reserved ?? 0;
  return (
    <div class="metric">
      <span class="dim">{label}</span>
      <span class="mono right">{text}</span>
      <div class="bar" role="meter" aria-label={`${label}: ${text}`} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(total ? (100 * main) / total : 0)}>
        {reserved !== undefined && used !== undefined && <i class="second" style={{ width: percent(reserved) }} />}
        <i class={scarce && total && main / total > 0.9 ? 'hot' : ''} style={{ width: percent(main) }} />
      </div>
    </div>
  );
}

export function Tabs({ tabs, value, onChange, label }: { tabs: [string, string][]; value: string; onChange: (id: string) => void; label: string }) {
  const list = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (!step) return;
    const at = tabs.findIndex(([id]) => id === value);
    const next = tabs[(at + step + tabs.length) % tabs.length][0];
    onChange(next);
    requestAnimationFrame(() => list.current?.querySelector<HTMLElement>('[aria-selected=true]')?.focus());
  };
  return (
    <div class="tabs" role="tablist" aria-label={label} ref={list} onKeyDown={move}>
      {tabs.map(([id, text]) => (
        <button key={id} type="button" role="tab" aria-selected={id === value} tabIndex={id === value ? 0 : -1} onClick={() => onChange(id)}>{text}</button>
      ))}
    </div>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  footer?: ComponentChildren;
  big?: boolean;
}

export function Dialog({ title, onClose, children, footer, big }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    ref.current?.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog ref={ref} class={big ? 'big' : ''} aria-labelledby={id} onCancel={(event) => (event.preventDefault(), onClose())}>
      <header><h2 id={id} class="clip">{title}</h2><Button icon="x" label="Close" kind="quiet" onClick={onClose} /></header>
      <div class="body">{children}</div>
      {footer && <footer>{footer}</footer>}
    </dialog>
  );
}

export interface Item {
  text: string;
  icon?: string;
  act?: () => void;
  danger?: boolean;
  off?: boolean;
}

export function Menu({ label, icon = 'more', items, kind = '' }: { label: string; icon?: string; items: (Item | null)[]; kind?: string }) {
  const open = useSignal(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open.value) return;
    box.current?.querySelector<HTMLElement>('.menu button')?.focus();
    const away = (event: Event) => !box.current?.contains(event.target as Node) && (open.value = false);
    document.addEventListener('pointerdown', away);
    return () => document.removeEventListener('pointerdown', away);
  }, [open.value]);
  const keys = (event: KeyboardEvent) => {
    if (!open.value) return;
    const all = [...(box.current?.querySelectorAll<HTMLElement>('.menu button:not(:disabled)') ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    if (event.key === 'Escape') ((open.value = false), box.current?.querySelector('button')?.focus(), event.stopPropagation());
    else if (event.key === 'ArrowDown') (all[(at + 1) % all.length]?.focus(), event.preventDefault());
    else if (event.key === 'ArrowUp') (all[(at - 1 + all.length) % all.length]?.focus(), event.preventDefault());
  };
  return (
    <div ref={box} style={{ position: 'relative' }} onKeyDown={keys}>
      <Button icon={icon} label={label} kind={kind} aria-haspopup="menu" aria-expanded={open.value} onClick={() => (open.value = !open.value)} />
      {open.value && (
        <div class="menu" role="menu" aria-label={label}>
          {items.map((item, at) => item ? (
            <button key={item.text} type="button" role="menuitem" disabled={item.off} class={item.danger ? 'tone-bad' : ''} onClick={() => ((open.value = false), item.act?.())}>
              {item.icon && <Icon name={item.icon} />}{item.text}
            </button>
          ) : <hr key={at} />)}
        </div>
      )}
    </div>
  );
}

export const Toasts = () => (
  <div class="toasts" role="status" aria-live="polite">
    {toasts.value.map((toast) => <div key={toast.id} class={`toast ${toast.tone}`}>{toast.text}</div>)}
  </div>
);

export function Search({ value, label, onKey }: { value: Signal<string>; label: string; onKey?: (event: KeyboardEvent) => void }) {
  return (
    <div class="searchbox grow">
      <Icon name="search" />
      <input class="field" type="search" placeholder={label} aria-label={label} value={value.value} onInput={(event) => (value.value = event.currentTarget.value)} onKeyDown={onKey} data-filter />
    </div>
  );
}

export function Copy({ text, label }: { text: string; label: string }) {
  const done = useSignal(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    done.value = true;
    setTimeout(() => (done.value = false), 1500);
  };
  return <Button icon={done.value ? 'job' : 'copy'} label={label} kind="quiet" onClick={copy} />;
}
