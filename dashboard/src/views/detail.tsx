// One object: what it is, and what can be done with it.
import { useSignal } from '@preact/signals';
import { lazy } from '../ui/lazy';
import { type Obj, patch } from '../lib/api';
import { byId, idOf, type Resource } from '../lib/discovery';
import { useObject } from '../lib/live';
import { attempt, go, here, listPath, say, setQuery } from '../lib/state';
import { toYAML, withoutManaged } from '../lib/util';
import { Age, Button, Card, Chips, Copy, Empty, Facts, Failure, type Item, Loading, Menu, StatusPill, Tabs } from '../ui/basics';
import { Delete, restart, Scale, Write } from '../ui/changes';
import { Editor } from '../ui/editor';
import { Events } from './events';
import { Files } from './files';
import { Logs } from './logs';
import { cordon, Drain, NodeOverview, nodeState } from './node';
import { Owners, podStatus } from './owners';
import { metricsPath, PodOverview, podUsage, Usage } from './pod';
import { PolicySummary } from './policies';
import { ClaimOverview } from './storage';
import { hasHistory, hasPods, History, Pods, WorkloadOverview } from './workload';

const Shell = lazy(() => import('./terminal').then((module) => module.Shell));

export function Detail({ id, namespace, name }: { id: string; namespace: string; name: string }) {
  const resource = byId(id);
  if (!resource) return <div class="page"><Empty title="The server has no such kind" /></div>;
  return <DetailOf key={`${id}/${namespace}/${name}`} resource={resource} namespace={namespace === '-' ? '' : namespace} name={name} />;
}

export function statusOf(object: Obj): string {
  if (object.metadata.deletionTimestamp) return 'Terminating';
  if (object.kind === 'Pod') return podStatus(object);
  if (object.kind === 'Node') return nodeState(object);
  if (object.status?.phase) return object.status.phase;
  const conditions: Obj[] = object.status?.conditions ?? [];
  for (const type of ['Ready', 'Available', 'Established', 'Complete']) {
    const each = conditions.find((c) => c.type === type);
    if (each) return each.status === 'True' ? type : (each.reason ?? `Not${type}`);
  }
  return '';
}

function DetailOf({ resource, namespace, name }: { resource: Resource; namespace: string; name: string }) {
  const { object, loading, error } = useObject(resource, namespace, name);
  const seen = useSignal(false);
  const dialog = useSignal('');
  if (object) seen.value = true;
  const isPod = object?.kind === 'Pod' && resource.plural === 'pods';
  const isNode = object?.kind === 'Node';
  const can = (verb: string) => resource.verbs.includes(verb);
  const tabs: [string, string][] = [];
  tabs.push(['overview', 'Overview']);
  if (isPod) tabs.push(['logs', 'Logs'], ['terminal', 'Terminal'], ['files', 'Files']);
  if (isPod || isNode) tabs.push(['usage', 'Usage']);
  if (object && hasHistory(object)) tabs.push(['history', 'History']);
  tabs.push(['yaml', 'YAML']);
  const asked = here.value.query.get('tab') ?? 'overview';
  const tab = tabs.some(([id]) => id === asked) ? asked : 'overview';
  const full = ['logs', 'terminal', 'yaml'].includes(tab);
  const open = (what: string) => () => (dialog.value = what);
  const close = () => (dialog.value = '');
  const status = object && statusOf(object);

  const actions: (Item | null)[] = [];
  if (object && isNode) {
    const off = !object.spec?.unschedulable;
    actions.push({ text: off ? 'Cordon' : 'Uncordon', icon: 'ban', act: () => cordon(resource, object, off) }, { text: 'Drain', icon: 'drain', act: open('drain') });
  }
  if (object && hasHistory(object)) actions.push({ text: 'Restart', icon: 'restart', act: () => restart(resource, object) });
  if (object?.kind === 'Deployment') {
    const paused = object.spec?.paused;
    actions.push({ text: paused ? 'Resume rollout' : 'Pause rollout', icon: paused ? 'play' : 'pause', act: () => attempt(paused ? 'The rollout goes on' : 'The rollout is paused', () => patch(path(), { spec: { paused: paused ? null : true } })) });
  }
  if (object?.kind === 'CronJob') {
    const suspended = object.spec?.suspend;
    actions.push({ text: suspended ? 'Resume' : 'Suspend', icon: suspended ? 'play' : 'pause', act: () => attempt(suspended ? 'It runs again by its schedule' : 'It is suspended', () => patch(path(), { spec: { suspend: !suspended } })) });
  }
  if (object && actions.length) actions.push(null);
  if (object) {
    actions.push({ text: 'Copy name', icon: 'copy', act: () => void navigator.clipboard.writeText(name).then(() => say('The name is copied')) });
    actions.push({ text: 'Copy YAML', icon: 'copy', act: () => void navigator.clipboard.writeText(toYAML(withoutManaged(object))).then(() => say('The YAML is copied')) });
  }
  const path = () => `${resource.group ? `/apis/${resource.group}` : '/api'}/${resource.version}${namespace ? `/namespaces/${namespace}` : ''}/${resource.plural}/${name}`;

  const keys = (event: KeyboardEvent) => {
    if ((event.target as Element).closest('input, textarea, select, .cm-editor, .terminal') || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'e' && object && can('update')) (open('edit')(), event.preventDefault());
    if (event.key === 'd' && object && can('delete')) (open('delete')(), event.preventDefault());
  };

  return (
    <div class={`page ${full ? 'full' : ''}`} onKeyDown={keys}>
      <nav class="crumbs" aria-label="Where this is"><a href={`#${listPath(idOf(resource))}`}>{resource.kind}</a>{namespace && <><span>/</span><span>{namespace}</span></>}</nav>
      <div class="head">
        <h1 class="clip">{name}</h1>
        {status && <StatusPill text={status} />}
        {object && <span class="dim"><Age time={object.metadata.creationTimestamp} /> old</span>}
        <span class="grow" />
        {object && resource.subresources.includes('scale') && <Button icon="scale" onClick={open('scale')}>Scale</Button>}
        {object && can('update') && <Button icon="edit" onClick={open('edit')}>Edit</Button>}
        {object && can('delete') && <Button icon="trash" kind="danger" onClick={open('delete')}>Delete</Button>}
        {object && <Menu label="More actions" items={actions} />}
      </div>
      <Failure error={error} />
      {loading && !object && <Loading />}
      {!loading && !object && !error && <div class="card"><Empty title={seen.value ? 'This object has been deleted' : 'There is no such object'}>It may come back by the same name; this page would show it.</Empty></div>}
      {object && (
        <>
          <Tabs label={`Views of ${name}`} tabs={tabs} value={tab} onChange={(value) => setQuery('tab', value === 'overview' ? '' : value)} />
          {tab === 'overview' && <Overview resource={resource} object={object} />}
          {tab === 'logs' && <Logs pod={object} previous={(object.status?.containerStatuses ?? []).some((each: Obj) => each.restartCount > 0)} />}
          {tab === 'terminal' && <Shell pod={object} />}
          {tab === 'files' && <Files pod={object} />}
          {tab === 'usage' && <UsageOf object={object} />}
          {tab === 'history' && <History resource={resource} object={object} />}
          {tab === 'yaml' && <Text object={object} onEdit={can('update') ? open('edit') : undefined} />}
        </>
      )}
      {object && dialog.value === 'edit' && <Write resource={resource} object={object} namespace={namespace} onClose={close} />}
      {object && dialog.value === 'scale' && <Scale resource={resource} object={object} onClose={close} />}
      {object && dialog.value === 'drain' && <Drain resource={resource} node={object} onClose={close} />}
      {object && dialog.value === 'delete' && <Delete objects={[{ resource, namespace, name, uid: object.metadata.uid }]} onClose={close} onDone={() => !object.metadata.finalizers?.length && go(listPath(idOf(resource)))} />}
    </div>
  );
}

function Text({ object, onEdit }: { object: Obj; onEdit?: () => void }) {
  const managed = useSignal(false);
  const text = toYAML(managed.value ? object : withoutManaged(object));
  return (
    <div class="col grow" style={{ minHeight: 0 }}>
      <div class="row"><span class="grow dim">Live: the text follows the object</span><Copy text={text} label="Copy the YAML" />{onEdit && <Button icon="edit" kind="primary" onClick={onEdit}>Edit</Button>}</div>
      <Editor text={text} readOnly onChange={() => {}} label="YAML of the object" />
    </div>
  );
}

function UsageOf({ object }: { object: Obj }) {
  const path = metricsPath(object.kind === 'Node' ? 'nodes' : 'pods', object.metadata.namespace ?? '', object.metadata.name);
  if (!path) return <div class="card"><Empty title="This cluster serves no metrics">Start it with the metrics server: `tiphys addon apply metrics-server`.</Empty></div>;
  return <Usage path={path} read={object.kind === 'Node' ? (answer) => ({ [object.metadata.name]: answer.usage }) : podUsage} label={object.metadata.name} />;
}

function Conditions({ object }: { object: Obj }) {
  const conditions: Obj[] = object.status?.conditions ?? [];
  if (!conditions.length) return null;
  return (
    <Card title="Conditions" bare>
      <div class="scroll">
        <table class="plain">
          <thead><tr><th>Type</th><th>Status</th><th>Reason</th><th>Message</th><th>Since</th></tr></thead>
          <tbody>{conditions.map((each) => <tr key={each.type}><td><b>{each.type}</b></td><td class="dim">{each.status}</td><td>{each.reason}</td><td>{each.message}</td><td class="dim"><Age time={each.lastTransitionTime} /></td></tr>)}</tbody>
        </table>
      </div>
    </Card>
  );
}

function Data({ object }: { object: Obj }) {
  const shown = useSignal(new Set<string>());
  const secret = object.kind === 'Secret';
  const entries = Object.entries((object.data ?? {}) as Record<string, string>);
  if (!entries.length) return null;
  const plain = (value: string) => {
    if (!secret) return value;
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(atob(value), (c) => c.charCodeAt(0)));
    } catch {
      return `${atob(value).length} bytes that are no text`;
    }
  };
  const toggle = (name: string) => {
    const next = new Set(shown.value);
    if (!next.delete(name)) next.add(name);
    shown.value = next;
  };
  return (
    <Card title={`Data (${entries.length})`}>
      <Facts of={entries.map(([name, value]) => {
        const visible = !secret || shown.value.has(name);
        return [name, <div key={name} class="row" style={{ alignItems: 'flex-start' }}><pre class="mono grow scroll" tabIndex={0} style={{ margin: 0, maxHeight: '220px', whiteSpace: 'pre-wrap' }}>{visible ? plain(value) : '••••••••'}</pre>{secret && <Button kind="quiet" onClick={() => toggle(name)}>{visible ? 'Hide' : 'Show'}</Button>}{visible && <Copy text={plain(value)} label={`Copy ${name}`} />}</div>];
      })} />
    </Card>
  );
}

function Overview({ resource, object }: { resource: Resource; object: Obj }) {
  const { metadata: meta, spec = {} } = object;
  const annotations = Object.fromEntries(Object.entries((meta.annotations ?? {}) as Record<string, string>).filter(([name]) => name !== 'kubectl.kubernetes.io/last-applied-configuration').map(([name, value]) => [name, value.length > 160 ? `${value.slice(0, 160)}…` : value]));
  return (
    <>
      {object.kind === 'Pod' && <PodOverview pod={object} />}
      {object.kind === 'Node' && <NodeOverview node={object} />}
      {hasPods(object) && <WorkloadOverview object={object} />}
      {object.kind === 'Service' && <><Service object={object} />{spec.selector && <Pods namespace={meta.namespace} selector={Object.entries(spec.selector).map(([a, b]) => `${a}=${b}`).join(',')} title="Pods behind it" />}</>}
      {object.kind === 'PersistentVolumeClaim' && <ClaimOverview claim={object} />}
      {object.kind === 'NetworkPolicy' && <PolicySummary policy={object} />}
      {(object.kind === 'ConfigMap' || object.kind === 'Secret') && <Data object={object} />}
      <Owners resource={resource} object={object} />
      <Conditions object={object} />
      <Card title="Metadata">
        <Facts of={[['Created', new Date(meta.creationTimestamp).toLocaleString()], ['Labels', meta.labels && <Chips of={meta.labels} />], ['Annotations', Object.keys(annotations).length > 0 && <Chips of={annotations} />], ['Finalizers', meta.finalizers?.join(', ')], ['UID', <code key="u">{meta.uid}</code>], ['Resource version', <code key="v">{meta.resourceVersion}</code>]]} />
      </Card>
      <Events object={object} />
    </>
  );
}

function Service({ object }: { object: Obj }) {
  const { spec, status } = object;
  const given = (status?.loadBalancer?.ingress ?? []).map((each: Obj) => each.ip ?? each.hostname).join(', ');
  return (
    <Card title="Service">
      <Facts of={[['Type', spec.type], ['Addresses', (spec.clusterIPs ?? []).join(', ')], ['Outside', given || (spec.type === 'LoadBalancer' ? 'waits for an address' : '')], ['Ports', (spec.ports ?? []).map((each: Obj) => `${each.name ? `${each.name}: ` : ''}${each.port} → ${each.targetPort}${each.nodePort ? ` (node port ${each.nodePort})` : ''} ${each.protocol}`).join(', ')], ['Selector', spec.selector && <Chips of={spec.selector} />], ['Name inside', <code key="n">{object.metadata.name}.{object.metadata.namespace}.svc</code>]]} />
    </Card>
  );
}
