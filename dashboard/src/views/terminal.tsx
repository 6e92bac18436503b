// A terminal in a container, by exec.
import { FitAddon } from '@xterm/addon-fit';
import { SearchAddon } from '@xterm/addon-search';
import { Terminal } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Obj } from '../lib/api';
import { run } from '../lib/exec';
import { Button } from '../ui/basics';

const SHELL = ['sh', '-c', 'TERM=xterm-256color; export TERM; for s in bash ash sh; do command -v $s >/dev/null 2>&1 && exec $s; done'];

export function Shell({ pod }: { pod: Obj }) {
  const running = (pod.status?.containerStatuses ?? []).filter((each: Obj) => each.state?.running).map((each: Obj) => each.name as string);
  const container = useSignal(running[0] ?? pod.spec.containers[0].name);
  const state = useSignal('connecting');
  const round = useSignal(0);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const terminal = new Terminal({ fontFamily: 'ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace', fontSize: 13, cursorBlink: true, scrollback: 5000, screenReaderMode: true, theme: { background: '#0b0e12', foreground: '#e8ebf0', cursor: '#2dd4bf', selectionBackground: '#2b5a56' } });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    terminal.loadAddon(new SearchAddon());
    terminal.open(box.current!);
    fit.fit();
    state.value = 'connecting';
    const session = run({ namespace: pod.metadata.namespace, pod: pod.metadata.name, container: container.value }, SHELL, { stdin: true, tty: true }, {
      open: () => {
        state.value = 'connected';
        session.resize(terminal.cols, terminal.rows);
        terminal.focus();
      },
      output: (data) => terminal.write(data),
      end: (failure) => {
        state.value = 'ended';
        terminal.write(`\r\n\x1b[2m${failure || 'The session has ended.'}\x1b[0m\r\n`);
      },
    });
    const typed = terminal.onData((text) => session.write(text));
    const sized = terminal.onResize(({ cols, rows }) => session.resize(cols, rows));
    const observer = new ResizeObserver(() => fit.fit());
    observer.observe(box.current!);
    return () => {
      observer.disconnect();
      typed.dispose();
      sized.dispose();
      session.close();
      terminal.dispose();
    };
  }, [container.value, round.value]);
  return (
    <div class="col grow" style={{ minHeight: 0 }}>
      <div class="row">
        <select class="field" aria-label="Container" value={container.value} onChange={(event) => (container.value = event.currentTarget.value)}>
          {pod.spec.containers.map((each: Obj) => <option key={each.name} value={each.name}>{each.name}</option>)}
        </select>
        <span class={`status ${state.value === 'connected' ? 'good' : state.value === 'ended' ? '' : 'wait'}`} role="status">{state.value}</span>
        <span class="grow dim right">Ctrl+Alt+Escape leaves the terminal</span>
        <Button icon="restart" onClick={() => round.value++}>New session</Button>
      </div>
      <div class="terminal" ref={box} onKeyDown={(event) => event.key === 'Escape' && event.ctrlKey && event.altKey && (document.querySelector<HTMLElement>('[role=tab][aria-selected=true]')?.focus())} />
    </div>
  );
}
