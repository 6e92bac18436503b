// Logs that follow: one container or all, found, paused, saved. Only the lines in sight are elements.
import { useComputed, useSignal } from '@preact/signals';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { type ApiError, type Obj, request, stream, url } from '../lib/api';
import { say } from '../lib/state';
import { download, enc } from '../lib/util';
import { Button, Failure, Search } from '../ui/basics';

const LINE = 20;
const MOST = 50000;
const COLOURS = ['var(--accent)', 'var(--info)', 'var(--wait)', 'var(--good)', 'var(--bad)'];

interface Line {
  time: string;
  text: string;
  from: number;
}

export const containersOf = (pod: Obj): string[] =>
  [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? []), ...(pod.spec?.ephemeralContainers ?? [])].map((each: Obj) => each.name);

const ANSI = /\u001b\[[0-9;?]*[A-Za-z]/g;

export function Logs({ pod, previous: canPrevious }: { pod: Obj; previous: boolean }) {
  const names = containersOf(pod);
  const container = useSignal(names.length > 1 ? '*' : names[0]);
  const previous = useSignal(false);
  const follows = useSignal(true);
  const times = useSignal(false);
  const filter = useSignal('');
  const only = useSignal(false);
  const version = useSignal(0);
  const error = useSignal<ApiError | undefined>(undefined);
  const lines = useRef<Line[]>([]);
  const box = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const height = useSignal(500);
  const chosen = container.value === '*' ? names : [container.value];
  const path = `/api/v1/namespaces/${enc(pod.metadata.namespace)}/pods/${enc(pod.metadata.name)}/log`;
  const states = [...(pod.status?.initContainerStatuses ?? []), ...(pod.status?.containerStatuses ?? [])];
  const started = states.filter((each: Obj) => each.state?.running || each.state?.terminated).map((each: Obj) => `${each.name}:${each.containerID}`).join();

  useEffect(() => {
    lines.current = [];
    version.value++;
    error.value = undefined;
    let over = false;
    let frame = 0;
    const stops: (() => void)[] = [];
    const show = () => (frame ||= requestAnimationFrame(() => ((frame = 0), version.value++)));
    chosen.forEach((name) => {
      if (!previous.value && !started.includes(`${name}:`)) return;
      const from = names.indexOf(name);
      let rest = '';
      let last = '';
      let tries = 0;
      const open = () => {
        const query = { container: name, timestamps: 'true', follow: previous.value ? undefined : 'true', tailLines: last ? undefined : '5000', sinceTime: last ? last.slice(0, 19) + 'Z' : undefined, previous: previous.value ? 'true' : undefined };
        const resumed = last;
        stops[from] = stream(url(path, query), '*/*', {
          text: (text) => {
            tries = 0;
            const parts = (rest + text).split('\n');
            rest = parts.pop() ?? '';
            for (const part of parts) {
              const space = part.indexOf(' ');
              const time = part.slice(0, space);
              if (resumed && time <= resumed) continue;
              last = time;
              lines.current.push({ time, text: part.slice(space + 1).replace(ANSI, ''), from });
            }
            if (lines.current.length > MOST) lines.current.splice(0, lines.current.length - MOST);
            show();
          },
          end: (failure) => {
            if (over) return;
            if (failure && failure.code !== 0) error.value = failure;
            else if (failure && tries++ < 5) setTimeout(() => !over && open(), 1000 * tries);
          },
        });
      };
      open();
    });
    return () => {
      over = true;
      stops.forEach((stop) => stop?.());
    };
  }, [container.value, previous.value, started]);

  const visible = useComputed(() => {
    void version.value;
    const words = filter.value.toLowerCase();
    const all = chosen.length > 1 ? [...lines.current].sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0)) : lines.current;
    return words && only.value ? all.filter((line) => line.text.toLowerCase().includes(words)) : [...all];
  });
  const all = visible.value;
  const hits = filter.value ? all.filter((line) => line.text.toLowerCase().includes(filter.value.toLowerCase())).length : 0;

  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => (height.value = box.current!.clientHeight));
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    if (follows.value && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [all.length, follows.value]);

  const nextHit = (step: number) => {
    const words = filter.value.toLowerCase();
    let at = Math.floor(top.value / LINE) + (step > 0 ? 1 : -1);
    follows.value = false;
    for (; at >= 0 && at < all.length; at += step)
      if (all[at].text.toLowerCase().includes(words)) return void (box.current!.scrollTop = at * LINE);
  };
  const save = async () => {
    try {
      for (const name of chosen) {
        const text = await request('GET', path, { query: { container: name, timestamps: 'true', previous: previous.value ? 'true' : undefined }, accept: '*/*', text: true });
        download(`${pod.metadata.name}-${name}.log`, text, 'text/plain');
      }
    } catch (failure) {
      say((failure as Error).message, 'bad');
    }
  };
  const first = Math.max(0, Math.floor(top.value / LINE) - 10);
  const last = Math.min(all.length, Math.ceil((top.value + height.value) / LINE) + 10);
  return (
    <div class="col grow" style={{ minHeight: 0 }}>
      <div class="row wrap">
        <select class="field" aria-label="Container" value={container.value} onChange={(event) => (container.value = event.currentTarget.value)}>
          {names.length > 1 && <option value="*">All containers</option>}
          {names.map((name) => <option key={name} value={name}>{name}</option>)}
        </select>
        <Search value={filter} label="Find in the log" onKey={(event) => event.key === 'Enter' && nextHit(event.shiftKey ? -1 : 1)} />
        {filter.value && <span class="dim">{hits.toLocaleString()}</span>}
        <label class="check"><input type="checkbox" checked={only.value} onChange={() => (only.value = !only.value)} />Only hits</label>
        <label class="check"><input type="checkbox" checked={times.value} onChange={() => (times.value = !times.value)} />Times</label>
        {canPrevious && <label class="check"><input type="checkbox" checked={previous.value} onChange={() => (previous.value = !previous.value)} />Before the restart</label>}
        <Button icon={follows.value ? 'pause' : 'play'} aria-pressed={follows.value} onClick={() => (follows.value = !follows.value)}>{follows.value ? 'Following' : 'Follow'}</Button>
        <Button icon="download" label="Save the log" onClick={save} />
      </div>
      <Failure error={error.value} what="The log cannot be read" />
      <div class="logs" ref={box} tabIndex={0} role="log" aria-label={`Log of ${container.value === '*' ? 'all containers' : container.value}`} aria-live="off"
        onScroll={(event) => {
          const element = event.currentTarget;
          top.value = element.scrollTop;
          const atEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - LINE;
          if (!atEnd && follows.value && element.scrollTop < (all.length - 1) * LINE - element.clientHeight - LINE * 3) follows.value = false;
        }}>
        <div style={{ height: `${all.length * LINE}px`, position: 'relative' }}>
          {all.slice(first, last).map((line, i) => (
            <div class="line" key={first + i} style={{ top: `${(first + i) * LINE}px` }}>
              {times.value && <span class="time">{line.time.slice(0, 23)}</span>}
              {chosen.length > 1 && <span class="from" style={{ color: COLOURS[line.from % COLOURS.length] }}>{names[line.from]}</span>}
              <Marked text={line.text} words={filter.value} />
            </div>
          ))}
        </div>
        {all.length === 0 && !error.value && <div class="empty">{started ? 'Nothing has been logged yet' : 'The container has not started yet'}</div>}
      </div>
    </div>
  );
}

function Marked({ text, words }: { text: string; words: string }) {
  if (!words) return <>{text}</>;
  const at = text.toLowerCase().indexOf(words.toLowerCase());
  if (at < 0) return <>{text}</>;
  return <>{text.slice(0, at)}<mark>{text.slice(at, at + words.length)}</mark>{text.slice(at + words.length)}</>;
}
