// What manages pods: how far a rollout is, its pods, its history with differences, and the way back.
import { useSignal } from '@preact/signals';
import { JSON_PATCH, type Obj, patch, STRATEGIC } from '../lib/api';
import { find, idOf, pathOf, type Resource } from '../lib/discovery';
import { useObjects } from '../lib/live';
import { attempt, detailPath } from '../lib/state';
import { selectorText } from '../lib/labels';
import { plural, toYAML } from '../lib/util';
import { Age, Bar, Button, Card, Dialog, Empty, Facts, Failure, StatusPill } from '../ui/basics';
import { Diff } from '../ui/editor';
import { podStatus } from './owners';

export const hasPods = (object: Obj) => !!object?.spec?.selector && ['apps', 'batch'].includes(object.apiVersion.split('/')[0]);
export const hasHistory = (object: Obj) => ['Deployment', 'StatefulSet', 'DaemonSet'].includes(object?.kind) && object.apiVersion.startsWith('apps/');

export function Pods({ namespace, selector, title }: { namespace: string; selector: string; title: string }) {
  const pods = useObjects(selector ? find('pods') : undefined, namespace, { labelSelector: selector });
  const resource = find('pods')!;
  const all = [...pods.items.value].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  return (
    <Card title={`${title} (${all.length})`} bare>
      <Failure error={pods.error.value} />
      {!all.length && !pods.error.value ? <Empty title="No pods" /> : (
        <div class="scroll" tabIndex={0} role="group" aria-label={title} style={{ maxHeight: '420px' }}>
          <table class="plain">
            <thead><tr><th>Name</th><th>Status</th><th>Ready</th><th>Restarts</th><th>Node</th><th>Age</th></tr></thead>
            <tbody>{all.slice(0, 500).map((pod) => {
              const states = pod.status?.containerStatuses ?? [];
              return (
                <tr key={pod.metadata.uid}>
                  <td><a href={`#${detailPath(idOf(resource), namespace, pod.metadata.name)}`}>{pod.metadata.name}</a></td>
                  <td><StatusPill text={podStatus(pod)} /></td>
                  <td>{states.filter((each: Obj) => each.ready).length}/{pod.spec.containers.length}</td>
                  <td>{states.reduce((sum: number, each: Obj) => sum + each.restartCount, 0)}</td>
                  <td class="dim">{pod.spec.nodeName}</td>
                  <td class="dim"><Age time={pod.metadata.creationTimestamp} /></td>
                </tr>
              );
            })}</tbody>
          </table>
        </div>
      )}
    </Card>
  );
}

export function WorkloadOverview({ object }: { object: Obj }) {
  const { spec = {}, status = {} } = object;
  const wanted = object.kind === 'DaemonSet' ? (status.desiredNumberScheduled ?? 0) : object.kind === 'Job' ? (spec.completions ?? spec.parallelism ?? 1) : (spec.replicas ?? 1);
  const ready = object.kind === 'DaemonSet' ? (status.numberReady ?? 0) : object.kind === 'Job' ? (status.succeeded ?? 0) : (status.readyReplicas ?? 0);
  const updated = status.updatedReplicas ?? status.updatedNumberScheduled;
  return (
    <>
      <Card title={object.kind === 'Job' ? 'Progress' : 'Rollout'}>
        <div class="col">
          <Bar label={object.kind === 'Job' ? 'Done' : 'Ready'} used={ready} total={wanted} text={`${ready} of ${wanted}`} />
          {updated !== undefined && <Bar label="Up to date" used={updated} total={wanted} text={`${updated} of ${wanted}`} />}
          <Facts of={[['Selector', selectorText(spec.selector)], ['Strategy', spec.strategy?.type ?? spec.updateStrategy?.type], ['Images', (spec.template?.spec?.containers ?? []).map((each: Obj) => each.image).join(', ')], ['Paused', spec.paused && 'yes'], ['Suspended', spec.suspend && 'yes']]} />
        </div>
      </Card>
      <Pods namespace={object.metadata.namespace} selector={selectorText(spec.selector)} title="Pods" />
    </>
  );
}

interface Revision {
  number: number;
  name: string;
  created: string;
  cause: string;
  template: Obj;
  current: boolean;
  undo: () => Promise<unknown>;
}

const NOT_COPIED = ['kubectl.kubernetes.io/last-applied-configuration', 'deployment.kubernetes.io/revision', 'deployment.kubernetes.io/revision-history', 'deployment.kubernetes.io/desired-replicas', 'deployment.kubernetes.io/max-replicas', 'deprecated.deployment.rollback.to'];

function ofReplicaSet(set: Obj, deployment: Obj, path: string): Revision {
  const template = structuredClone(set.spec.template);
  delete template.metadata.labels?.['pod-template-hash'];
  delete template.metadata.creationTimestamp;
  const revision = 'deployment.kubernetes.io/revision';
  const kept = Object.fromEntries(Object.entries(deployment.metadata.annotations ?? {}).filter(([name]) => NOT_COPIED.includes(name)));
  const taken = Object.fromEntries(Object.entries(set.metadata.annotations ?? {}).filter(([name]) => !NOT_COPIED.includes(name)));
  return {
    number: Number(set.metadata.annotations?.[revision] ?? 0), name: set.metadata.name, created: set.metadata.creationTimestamp,
    cause: set.metadata.annotations?.['kubernetes.io/change-cause'] ?? '', template,
    current: set.metadata.annotations?.[revision] === deployment.metadata.annotations?.[revision],
    undo: () => patch(path, [{ op: 'test', path: '/metadata/uid', value: deployment.metadata.uid }, { op: 'replace', path: '/spec/template', value: template }, { op: 'replace', path: '/metadata/annotations', value: { ...kept, ...taken } }], JSON_PATCH),
  };
}

function ofControllerRevision(each: Obj, object: Obj, path: string, newest: number): Revision {
  return {
    number: each.revision, name: each.metadata.name, created: each.metadata.creationTimestamp,
    cause: each.metadata.annotations?.['kubernetes.io/change-cause'] ?? '', template: each.data?.spec?.template ?? {},
    current: object.status?.updateRevision ? object.status.updateRevision === each.metadata.name : each.revision === newest,
    undo: () => patch(path, each.data, STRATEGIC),
  };
}

export function History({ resource, object }: { resource: Resource; object: Obj }) {
  const deployment = object.kind === 'Deployment';
  const list = useObjects(deployment ? find('replicasets', 'apps') : find('controllerrevisions', 'apps'), object.metadata.namespace);
  const diff = useSignal<Revision | undefined>(undefined);
  const path = pathOf(resource, object.metadata.namespace, object.metadata.name);
  const owned = list.items.value.filter((each) => (each.metadata.ownerReferences ?? []).some((owner: Obj) => owner.uid === object.metadata.uid));
  const newest = Math.max(0, ...owned.map((each) => each.revision ?? 0));
  const revisions = owned.map((each) => (deployment ? ofReplicaSet(each, object, path) : ofControllerRevision(each, object, path, newest))).sort((a, b) => b.number - a.number);
  const current = revisions.find((each) => each.current);
  const undo = async (revision: Revision) => {
    if (await attempt(`${object.metadata.name} goes back to revision ${revision.number}`, revision.undo)) diff.value = undefined;
  };
  const clean = (template: Obj) => {
    const copy = structuredClone(template);
    delete copy.$patch;
    return toYAML(copy);
  };
  return (
    <Card title={`History: ${plural(revisions.length, 'revision')}`} bare>
      <Failure error={list.error.value} />
      <table class="plain">
        <thead><tr><th>Revision</th><th>Made</th><th>Images</th><th>Cause</th><th><span class="sr">Actions</span></th></tr></thead>
        <tbody>{revisions.map((each) => (
          <tr key={each.name}>
            <td><b>{each.number}</b> {each.current && <StatusPill text="Active" />}<div class="dim">{each.name}</div></td>
            <td class="dim"><Age time={each.created} /> ago</td>
            <td class="mono">{(each.template.spec?.containers ?? []).map((c: Obj) => c.image).join(', ')}</td>
            <td>{each.cause}</td>
            <td class="right">{!each.current && <Button icon="history" onClick={() => (diff.value = each)}>Compare and roll back</Button>}</td>
          </tr>
        ))}</tbody>
      </table>
      {diff.value && current && (
        <Dialog big title={`From revision ${current.number} back to ${diff.value.number}`} onClose={() => (diff.value = undefined)} footer={<><Button onClick={() => (diff.value = undefined)}>Cancel</Button><Button kind="primary" icon="history" onClick={() => undo(diff.value!)}>Roll back to revision {diff.value.number}</Button></>}>
          <span class="dim">Left: the pods' template as it is now; right: as it will be</span>
          <Diff before={clean(current.template)} after={clean(diff.value.template)} />
        </Dialog>
      )}
    </Card>
  );
}
