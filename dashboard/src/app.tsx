// The frame: bar, sidebar, and the view that the address names.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { logOut, reachable, resume, signedIn, whoAmI } from './lib/api';
import { discover, find, resources } from './lib/discovery';
import { useObjects } from './lib/live';
import { here, namespace, route, say, theme } from './lib/state';
import { Button, Dialog, Empty, Icon, Loading, Menu, Toasts } from './ui/basics';
import { Write } from './ui/changes';
import { Palette } from './ui/palette';
import { Sidebar } from './ui/sidebar';
import { Access } from './views/access';
import { Charts } from './views/charts';
import { Detail } from './views/detail';
import { List } from './views/list';
import { Login } from './views/login';
import { Overview } from './views/overview';
import { Policies } from './views/policies';
import { Storage } from './views/storage';

export function App() {
  useEffect(() => {
    resume().catch(() => (signedIn.value = false));
  }, []);
  if (signedIn.value === undefined) return <Loading />;
  return <>{signedIn.value ? <Frame /> : <Login />}<Toasts /></>;
}

const KEYS: [string, string][] = [
  ['Ctrl K', 'Go to a kind, a view or an object'], ['/', 'Filter'], ['j k ↑ ↓', 'Move in a list'], ['Enter', 'Open'], ['Space', 'Select'],
  ['d', 'Delete'], ['e', 'YAML or edit'], ['l', 'Logs of a pod'], ['s', 'Terminal of a pod'], ['n', 'Choose the namespace'], ['c', 'Create from YAML'], ['t', 'Dark or light'], ['?', 'This help'],
];

function Frame() {
  const side = useSignal(false);
  const dialog = useSignal('');
  const main = useRef<HTMLElement>(null);
  useEffect(() => {
    discover().catch((error) => say(error.message, 'bad'));
    const again = setInterval(() => discover().catch(() => {}), 60000);
    return () => clearInterval(again);
  }, []);
  const crds = useObjects(find('customresourcedefinitions', 'apiextensions.k8s.io'));
  const definitions = crds.items.value.map((each) => each.metadata.uid).join();
  useEffect(() => {
    if (definitions) discover().catch(() => {});
  }, [definitions]);
  useEffect(() => {
    const keys = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && event.key === 'k') return void ((dialog.value = 'palette'), event.preventDefault());
      if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
      if ((event.target as Element).closest('input, textarea, select, .cm-editor, .terminal')) return;
      if (event.key === '/') (document.querySelector<HTMLElement>('[data-filter]')?.focus(), event.preventDefault());
      else if (event.key === '?') dialog.value = 'keys';
      else if (event.key === 'c') (event.preventDefault(), (dialog.value = 'create'));
      else if (event.key === 'n') (event.preventDefault(), document.querySelector<HTMLElement>('#namespace')?.focus());
      else if (event.key === 't') nextTheme();
    };
    document.addEventListener('keydown', keys);
    return () => document.removeEventListener('keydown', keys);
  }, []);
  const path = route.value.split('?')[0];
  useEffect(() => {
    document.title = `${here.value.parts.at(-1) ?? 'Overview'} · Tiphys`;
    main.current?.scrollTo(0, 0);
  }, [path]);
  return (
    <div class="frame">
      <a class="skip" href={location.hash} onClick={(event) => (event.preventDefault(), main.current?.focus())}>Skip to the content</a>
      <Sidebar open={side.value} onNavigate={() => (side.value = false)} />
      <header class="top">
        <span class="hamburger"><Button icon="menu" label="Menu" kind="quiet" onClick={() => (side.value = !side.value)} /></span>
        <NamespacePicker />
        <button type="button" class="jump" onClick={() => (dialog.value = 'palette')}><Icon name="search" /><span class="grow words" style={{ textAlign: 'left' }}>Go to…</span><kbd>Ctrl K</kbd></button>
        <span class="grow" />
        <Button icon="plus" onClick={() => (dialog.value = 'create')}>Create</Button>
        <Button icon={theme.value === 'dark' ? 'moon' : theme.value === 'light' ? 'sun' : 'auto'} label={`Theme: ${theme.value}`} kind="quiet" onClick={nextTheme} />
        <Menu label={`Logged in as ${whoAmI.value.username}`} icon="user" kind="quiet" items={[{ text: whoAmI.value.username || 'unknown', icon: 'user', off: true }, null, { text: 'Keys', icon: 'config', act: () => (dialog.value = 'keys') }, { text: 'Log out', icon: 'x', act: () => void logOut() }]} />
      </header>
      <main class="main" ref={main} tabIndex={-1}>
        {!reachable.value && <div class="offline" role="alert">The API server cannot be reached; what is shown may be old. Trying again…</div>}
        {resources.value.length ? <View /> : <Loading />}
      </main>
      {dialog.value === 'palette' && <Palette onClose={() => (dialog.value = '')} />}
      {dialog.value === 'create' && <Write namespace={namespace.value} onClose={() => (dialog.value = '')} />}
      {dialog.value === 'keys' && <Dialog title="Keys" onClose={() => (dialog.value = '')}><dl class="facts">{KEYS.map(([key, text]) => [<dt key={key}><kbd>{key}</kbd></dt>, <dd key={text}>{text}</dd>])}</dl></Dialog>}
    </div>
  );
}

const nextTheme = () => (theme.value = theme.value === 'auto' ? 'dark' : theme.value === 'dark' ? 'light' : 'auto');

function NamespacePicker() {
  const list = useObjects(find('namespaces'));
  const names = list.items.value.map((each) => each.metadata.name as string).sort();
  if (list.error.value)
    return <input id="namespace" class="field" aria-label="Namespace" placeholder="Namespace" value={namespace.value} onChange={(event) => (namespace.value = event.currentTarget.value.trim())} />;
  if (namespace.value && names.length && !names.includes(namespace.value)) names.unshift(namespace.value);
  return (
    <select id="namespace" class="field" aria-label="Namespace" value={namespace.value} onChange={(event) => (namespace.value = event.currentTarget.value)}>
      <option value="">All namespaces</option>
      {names.map((each) => <option key={each} value={each}>{each}</option>)}
    </select>
  );
}

function View() {
  const { parts } = here.value;
  switch (parts[0]) {
    case undefined:
      return <Overview />;
    case 'r':
      return <List id={parts.slice(1, 4).join('/')} />;
    case 'o':
      return <Detail id={parts.slice(1, 4).join('/')} namespace={parts[4]} name={parts[5]} />;
    case 'storage':
      return <Storage />;
    case 'policies':
      return <Policies />;
    case 'access':
      return <Access />;
    case 'charts':
      return <Charts />;
  }
  return <div class="page"><Empty title="There is no such page" /></div>;
}
