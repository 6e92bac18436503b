// Dialogs that change things: write (with a server-side dry run and its difference first), delete, scale.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ApiError, get, type Obj, patch, post, put, remove, STRATEGIC } from '../lib/api';
import { byKind, pathOf, type Resource } from '../lib/discovery';
import { type Kind, kindOf, template } from '../lib/schema';
import { attempt, detailPath, go, say } from '../lib/state';
import { fromYAML, merge3, plural, toYAML, withoutManaged } from '../lib/util';
import { Button, Dialog } from './basics';
import { Diff, Editor } from './editor';
import { idOf } from '../lib/discovery';

interface Planned {
  resource: Resource;
  obj: Obj;
  before: string;
  after: string;
}

const shown = ({ apiVersion, kind, metadata, ...rest }: Obj) => toYAML(withoutManaged({ apiVersion, kind, metadata, ...rest }));
const placeOf = (resource: Resource, obj: Obj, namespace: string) =>
  pathOf(resource, resource.namespaced ? obj.metadata?.namespace || namespace || 'default' : '');

function resourceOf(obj: Obj): Resource {
  if (!obj?.apiVersion || !obj?.kind) throw new Error('each document needs apiVersion and kind');
  const resource = byKind(obj.kind, obj.apiVersion);
  if (!resource) throw new Error(`the server has no kind ${obj.kind} in ${obj.apiVersion}`);
  return resource;
}

function explained(error: unknown): string {
  if (!(error instanceof ApiError)) return (error as Error).message;
  const causes = error.status.details?.causes ?? [];
  return causes.length > 1 ? causes.map((cause) => `${cause.field ?? ''}: ${cause.message}`).join('\n') : error.message;
}

// Edit one object, or create from a text: text → dry run → difference → written.
export function Write({ resource, object, namespace, onClose }: { resource?: Resource; object?: Obj; namespace: string; onClose: () => void }) {
  const start = object ? shown(object) : resource ? template(resource, namespace) : '';
  const text = useSignal(start);
  const base = useSignal<Obj | undefined>(object && withoutManaged(object));
  const kind = useSignal<Kind | undefined>(undefined);
  const plan = useSignal<Planned[] | undefined>(undefined);
  const trouble = useSignal('');
  const conflict = useSignal<{ theirs: Obj; fields: string[] } | undefined>(undefined);
  const busy = useSignal(false);
  const head = /^apiVersion:\s*(\S+)[\s\S]*?^kind:\s*(\S+)/m.exec(text.value);
  const [version, name] = [head?.[1], head?.[2]];
  useEffect(() => {
    if (version && name) kindOf(version, name).then((known) => (kind.value = known), () => (kind.value = undefined));
  }, [version, name]);

  async function send(resource: Resource, obj: Obj, dry: boolean): Promise<Obj> {
    const query = { dryRun: dry ? 'All' : undefined, fieldValidation: 'Strict', fieldManager: 'tiphys-dashboard' };
    const place = placeOf(resource, obj, namespace);
    if (object) return put(`${place}/${encodeURIComponent(obj.metadata.name)}`, obj, query);
    return post(place, obj, query);
  }

  async function guarded(action: () => Promise<void>) {
    busy.value = true;
    trouble.value = '';
    try {
      await action();
    } catch (error) {
      if (object && error instanceof ApiError && error.code === 409 && error.status.reason === 'Conflict') await showConflict();
      else trouble.value = explained(error);
    }
    busy.value = false;
  }

  async function showConflict() {
    const mine = fromYAML(text.value)[0];
    const theirs = withoutManaged(await get(pathOf(resourceOf(mine), object!.metadata.namespace, object!.metadata.name)));
    const { conflicts } = merge3(base.value, mine, theirs);
    plan.value = undefined;
    conflict.value = { theirs, fields: conflicts.filter((field) => !/^metadata\.(resourceVersion|generation)$|^status/.test(field)) };
  }

  function rebase() {
    const { theirs } = conflict.value!;
    const mine = fromYAML(text.value)[0];
    const { value } = merge3(base.value, mine, theirs);
    value.metadata.resourceVersion = theirs.metadata.resourceVersion;
    if (theirs.status) value.status = theirs.status;
    base.value = theirs;
    text.value = toYAML(value);
    conflict.value = undefined;
    say('Your change now stands on the newest version; review it once more');
  }

  const review = () =>
    guarded(async () => {
      const documents = fromYAML(text.value);
      if (!documents.length) throw new Error('there is nothing to write');
      if (object && documents.length > 1) throw new Error('this edits one object; remove the other documents');
      const planned: Planned[] = [];
      for (const obj of documents) {
        const resource = resourceOf(obj);
        const after = await send(resource, obj, true);
        planned.push({ resource, obj, before: object ? shown(base.value!) : '', after: shown(after) });
      }
      plan.value = planned;
    });

  const write = () =>
    guarded(async () => {
      let made: Obj;
      for (const { resource, obj } of plan.value!) made = await send(resource, obj, false);
      const count = plan.value!.length;
      say(object ? `${object.kind} ${object.metadata.name} is changed` : count === 1 ? `${made!.kind} ${made!.metadata.name} is created` : `${count} objects are created`);
      if (!object && count === 1) go(detailPath(idOf(plan.value![0].resource), made!.metadata.namespace ?? '', made!.metadata.name));
      onClose();
    });

  const title = object ? `Edit ${object.kind} ${object.metadata.name}` : `Create ${resource?.kind ?? 'from YAML'}`;
  const unchanged = plan.value?.every((each) => each.before === each.after);
  const footer = conflict.value ? (
    <>
      <Button onClick={onClose}>Drop my change</Button>
      <Button kind="primary" onClick={rebase}>Put my change on the newest version</Button>
    </>
  ) : plan.value ? (
    <>
      <Button onClick={() => (plan.value = undefined)}>Back to the text</Button>
      <Button kind="primary" disabled={busy.value || unchanged} onClick={write}>{object ? 'Apply' : 'Create'}</Button>
    </>
  ) : (
    <>
      <span class="dim grow">Ctrl+Space completes; hover over a field for what it means</span>
      <Button onClick={onClose}>Cancel</Button>
      <Button kind="primary" disabled={busy.value || (!!object && text.value === start)} onClick={review}>Review changes</Button>
    </>
  );
  return (
    <Dialog title={title} onClose={onClose} footer={footer} big>
      {trouble.value && <div class="note bad" role="alert" style={{ whiteSpace: 'pre-wrap' }}>{trouble.value}</div>}
      {conflict.value ? (
        <>
          <div class="note wait" role="alert">
            <b>Somebody changed this object meanwhile.</b>{' '}
            {conflict.value.fields.length ? `Both of you changed: ${conflict.value.fields.join(', ')}. Yours would replace theirs there.` : 'The changes touch different fields, so both can stand.'}
          </div>
          <span class="dim">Left: the newest version; right: your text</span>
          <Diff before={shown(conflict.value.theirs)} after={text.value} />
        </>
      ) : plan.value ? (
        <>
          <div class={`note ${unchanged ? 'wait' : 'good'}`} role="status">{unchanged ? 'The server would change nothing.' : `The server accepts this (dry run). ${object ? 'This is what changes:' : `${plural(plan.value.length, 'object')} will be made:`}`}</div>
          {plan.value.map((each, at) => <Diff key={at} before={each.before} after={each.after} unified={!object} />)}
        </>
      ) : (
        <Editor text={text.value} kind={kind.value} onChange={(value) => (text.value = value)} label={`YAML of ${title}`} />
      )}
    </Dialog>
  );
}

const PROPAGATION: [string, string, string][] = [
  ['Background', 'In the background', 'It goes now, and what it owns soon after'],
  ['Foreground', 'In the foreground', 'First what it owns, then it'],
  ['Orphan', 'Alone', 'What it owns stays'],
];

export interface Doomed {
  resource: Resource;
  namespace: string;
  name: string;
  uid?: string;
}

export function Delete({ objects, onClose, onDone }: { objects: Doomed[]; onClose: () => void; onDone?: () => void }) {
  const propagation = useSignal('Background');
  const force = useSignal(false);
  const busy = useSignal(false);
  const kind = objects[0].resource.kind;
  const what = objects.length === 1 ? `${kind} ${objects[0].name}` : plural(objects.length, kind);
  const act = async () => {
    busy.value = true;
    const done = await attempt(`${what}: deletion began`, async () => {
      for (const { resource, namespace, name, uid } of objects) {
        const options: Obj = { kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: propagation.value };
        if (uid && !uid.includes('/')) options.preconditions = { uid };
        if (force.value) options.gracePeriodSeconds = 0;
        await remove(pathOf(resource, namespace, name), options);
      }
    });
    busy.value = false;
    if (done) onDone?.();
    onClose();
  };
  return (
    <Dialog title={`Delete ${what}?`} onClose={onClose} footer={<><Button onClick={onClose}>Keep</Button><Button kind="danger primary" icon="trash" disabled={busy.value} onClick={act}>Delete</Button></>}>
      {objects.length > 1 && <div class="note mono">{objects.slice(0, 12).map((each) => each.name).join(', ')}{objects.length > 12 && ` and ${objects.length - 12} more`}</div>}
      <div role="radiogroup" aria-label="What it owns" class="col" style={{ gap: '8px' }}>
        {PROPAGATION.map(([value, title, text]) => (
          <label key={value} class="choice">
            <input type="radio" name="propagation" checked={propagation.value === value} onChange={() => (propagation.value = value)} />
            <div><b>{title}</b><span>{text}</span></div>
          </label>
        ))}
      </div>
      {kind === 'Pod' && <label class="check"><input type="checkbox" checked={force.value} onChange={() => (force.value = !force.value)} />At once, without waiting for its containers to end</label>}
    </Dialog>
  );
}

export function Scale({ resource, object, onClose }: { resource: Resource; object: Obj; onClose: () => void }) {
  const count = useSignal(String(object.spec?.replicas ?? 1));
  const valid = /^\d{1,5}$/.test(count.value);
  const path = pathOf(resource, object.metadata.namespace, object.metadata.name, 'scale');
  const act = async (event?: Event) => {
    event?.preventDefault();
    if (!valid) return;
    const done = await attempt(`${object.metadata.name} is scaled to ${count.value}`, () => patch(path, { spec: { replicas: Number(count.value) } }));
    if (done) onClose();
  };
  return (
    <Dialog title={`Scale ${object.metadata.name}`} onClose={onClose} footer={<><Button onClick={onClose}>Cancel</Button><Button kind="primary" disabled={!valid} onClick={act}>Scale</Button></>}>
      <form onSubmit={act} class="row">
        <label for="replicas">Replicas</label>
        <Button icon="down" label="One fewer" disabled={!valid || count.value === '0'} onClick={() => (count.value = String(Number(count.value) - 1))} />
        <input id="replicas" class="field" style={{ width: '90px' }} inputMode="numeric" value={count.value} onInput={(event) => (count.value = event.currentTarget.value)} />
        <Button icon="up" label="One more" disabled={!valid} onClick={() => (count.value = String(Number(count.value) + 1))} />
        <span class="dim">now {object.status?.readyReplicas ?? 0} ready of {object.spec?.replicas ?? 1}</span>
      </form>
    </Dialog>
  );
}

export const restart = (resource: Resource, object: Obj) =>
  attempt(`${object.metadata.name} is being restarted`, () =>
    patch(
      pathOf(resource, object.metadata.namespace, object.metadata.name),
      { spec: { template: { metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': new Date().toISOString() } } } } },
      STRATEGIC,
    ),
  );
