// Go anywhere by typing: kinds, views, and objects by name.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { get } from '../lib/api';
import { idOf, pathOf, resources } from '../lib/discovery';
import { detailPath, go, listPath, namespace } from '../lib/state';
import { Icon } from './basics';
import { VIEWS } from './sidebar';

interface Entry {
  text: string;
  sub: string;
  path: string;
  icon: string;
}

const SEARCHED = [['pods', ''], ['deployments', 'apps'], ['services', ''], ['statefulsets', 'apps'], ['configmaps', ''], ['nodes', ''], ['namespaces', '']];
const TABLE = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json';

export function Palette({ onClose }: { onClose: () => void }) {
  const text = useSignal('');
  const at = useSignal(0);
  const objects = useSignal<Entry[]>([]);
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    ref.current?.showModal();
    let over = false;
    for (const [plural, group] of SEARCHED) {
      const resource = resources.value.find((each) => each.plural === plural && each.group === group);
      if (!resource) continue;
      get(pathOf(resource, resource.namespaced ? namespace.value : ''), { limit: '1000' }, TABLE).then(
        (list) => !over && (objects.value = [...objects.value, ...(list.items ?? []).map(({ metadata }: any) => ({ text: metadata.name, sub: `${resource.kind}${metadata.namespace ? ` · ${metadata.namespace}` : ''}`, path: detailPath(idOf(resource), metadata.namespace ?? '', metadata.name), icon: 'box' }))]),
        () => {},
      );
    }
    return () => void (over = true);
  }, []);
  const words = text.value.toLowerCase().trim();
  const kinds: Entry[] = resources.value.filter((each) => each.verbs.includes('list')).map((each) => ({ text: each.kind, sub: `${each.plural}${each.group ? `.${each.group}` : ''} ${each.shortNames.join(' ')}`, path: listPath(idOf(each)), icon: 'grid' }));
  const views: Entry[] = VIEWS.map(([path, name, icon]) => ({ text: name, sub: 'view', path, icon }));
  const rank = (entry: Entry) => {
    const name = entry.text.toLowerCase();
    if (entry.sub.split(/[ .]/).includes(words)) return 0;
    return name === words ? 0 : name.startsWith(words) ? 1 : name.includes(words) ? 2 : entry.sub.toLowerCase().includes(words) ? 3 : 9;
  };
  const hits = [...views, ...kinds, ...(words.length > 1 ? objects.value : [])].map((entry) => [rank(entry), entry] as const).filter(([r]) => !words || r < 9).sort((a, b) => a[0] - b[0]).slice(0, 40).map(([, entry]) => entry);
  const open = (entry?: Entry) => entry && (onClose(), go(entry.path));
  const keys = (event: KeyboardEvent) => {
    const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
    if (step) {
      at.value = (at.value + step + hits.length) % Math.max(1, hits.length);
      event.preventDefault();
      requestAnimationFrame(() => ref.current?.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest' }));
    } else if (event.key === 'Enter') (open(hits[at.value]), event.preventDefault());
  };
  return (
    <dialog class="palette" ref={ref} aria-label="Go to" onCancel={(event) => (event.preventDefault(), onClose())} onClick={(event) => event.target === ref.current && onClose()}>
      <input role="combobox" aria-expanded="true" aria-controls="hits" aria-activedescendant={hits.length ? `hit-${at.value}` : undefined} aria-label="Go to a kind, a view or an object" placeholder="Go to a kind, a view or an object" value={text.value} onInput={(event) => ((text.value = event.currentTarget.value), (at.value = 0))} onKeyDown={keys} />
      <ul id="hits" role="listbox" aria-label="Results">
        {hits.map((entry, i) => <li key={entry.path} id={`hit-${i}`} role="option" aria-selected={i === at.value} onClick={() => open(entry)} onMouseMove={() => (at.value = i)}><Icon name={entry.icon} /><b class="clip">{entry.text}</b><span class="dim clip grow right">{entry.sub}</span></li>)}
      </ul>
    </dialog>
  );
}
