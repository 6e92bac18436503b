// Claims, the volumes they got, the classes these are from, and the pods that use them.
import { useSignal } from '@preact/signals';
import type { Obj } from '../lib/api';
import { find, idOf } from '../lib/discovery';
import { useObjects } from '../lib/live';
import { detailPath, namespace } from '../lib/state';
import { bytes, quantity } from '../lib/amounts';
import { Age, Card, Empty, Facts, Failure, Search, StatusPill } from '../ui/basics';

const link = (plural: string, group: string, ns: string, name: string) => {
  const resource = find(plural, group);
  return resource ? <a href={`#${detailPath(idOf(resource), ns, name)}`}>{name}</a> : name;
};

const usersOf = (claim: Obj, pods: Obj[]) =>
  pods.filter((pod) => pod.metadata.namespace === claim.metadata.namespace && (pod.spec.volumes ?? []).some((volume: Obj) => volume.persistentVolumeClaim?.claimName === claim.metadata.name || (volume.ephemeral && `${pod.metadata.name}-${volume.name}` === claim.metadata.name)));

export function ClaimOverview({ claim }: { claim: Obj }) {
  const pods = useObjects(find('pods'), claim.metadata.namespace);
  const users = usersOf(claim, pods.items.value);
  return (
    <Card title="Volume">
      <Facts of={[
        ['Class', claim.spec.storageClassName && link('storageclasses', 'storage.k8s.io', '', claim.spec.storageClassName)],
        ['Volume', claim.spec.volumeName && link('persistentvolumes', '', '', claim.spec.volumeName)],
        ['Size', `${claim.status?.capacity?.storage ?? '–'} of ${claim.spec.resources?.requests?.storage} requested`],
        ['Access', (claim.spec.accessModes ?? []).join(', ')], ['Mode', claim.spec.volumeMode],
        ['Used by', users.length ? users.map((pod, i) => <span key={pod.metadata.uid}>{i > 0 && ', '}{link('pods', '', pod.metadata.namespace, pod.metadata.name)}</span>) : 'no pod'],
      ]} />
    </Card>
  );
}

export function Storage() {
  const claims = useObjects(find('persistentvolumeclaims'), namespace.value);
  const volumes = useObjects(find('persistentvolumes'));
  const classes = useObjects(find('storageclasses', 'storage.k8s.io'));
  const pods = useObjects(find('pods'), namespace.value);
  const filter = useSignal('');
  const byName = new Map(volumes.items.value.map((each) => [each.metadata.name, each]));
  const words = filter.value.toLowerCase();
  const shown = claims.items.value.filter((each) => !words || JSON.stringify([each.metadata.name, each.metadata.namespace, each.spec.storageClassName, each.status?.phase]).toLowerCase().includes(words));
  const loose = volumes.items.value.filter((each) => each.status?.phase !== 'Bound');
  const total = volumes.items.value.reduce((sum, each) => sum + quantity(each.spec.capacity?.storage), 0);
  return (
    <div class="page">
      <div class="head"><h1>Storage</h1><span class="dim">{volumes.items.value.length} volumes, {bytes(total)}</span></div>
      <div class="row"><Search value={filter} label="Filter claims" /></div>
      <Failure error={claims.error.value} />
      <Card title={`Claims (${shown.length})`} bare>
        {!shown.length ? <Empty title="No claims" /> : (
          <div class="scroll">
            <table class="plain">
              <thead><tr><th>Namespace</th><th>Claim</th><th>Status</th><th>Size</th><th>Volume</th><th>Class</th><th>Reclaim</th><th>Used by</th><th>Age</th></tr></thead>
              <tbody>{shown.slice(0, 500).map((claim) => {
                const volume = byName.get(claim.spec.volumeName);
                const users = usersOf(claim, pods.items.value);
                return (
                  <tr key={claim.metadata.uid}>
                    <td class="dim">{claim.metadata.namespace}</td>
                    <td>{link('persistentvolumeclaims', '', claim.metadata.namespace, claim.metadata.name)}</td>
                    <td><StatusPill text={claim.status?.phase ?? ''} /></td>
                    <td class="mono">{claim.status?.capacity?.storage ?? claim.spec.resources?.requests?.storage}</td>
                    <td>{claim.spec.volumeName ? link('persistentvolumes', '', '', claim.spec.volumeName) : '–'}<div class="dim">{volume?.spec.csi?.driver}</div></td>
                    <td>{claim.spec.storageClassName}</td>
                    <td class="dim">{volume?.spec.persistentVolumeReclaimPolicy}</td>
                    <td>{users.length ? users.map((pod) => <div key={pod.metadata.uid}>{link('pods', '', pod.metadata.namespace, pod.metadata.name)}</div>) : <span class="dim">no pod</span>}</td>
                    <td class="dim"><Age time={claim.metadata.creationTimestamp} /></td>
                  </tr>
                );
              })}</tbody>
            </table>
          </div>
        )}
      </Card>
      <div class="grid">
        <Card title="Classes" bare>
          <Failure error={classes.error.value} />
          <table class="plain"><thead><tr><th>Name</th><th>Provisioner</th><th>Binding</th><th>Grows</th></tr></thead><tbody>
            {classes.items.value.map((each) => <tr key={each.metadata.uid}><td>{link('storageclasses', 'storage.k8s.io', '', each.metadata.name)}{each.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true' && <div class="dim">default</div>}</td><td class="mono">{each.provisioner}</td><td class="dim">{each.volumeBindingMode}</td><td>{each.allowVolumeExpansion ? 'yes' : 'no'}</td></tr>)}
          </tbody></table>
        </Card>
        <Card title={`Volumes without a claim (${loose.length})`} bare>
          <Failure error={volumes.error.value} />
          {!loose.length ? <Empty title="None" /> : <table class="plain"><thead><tr><th>Name</th><th>Status</th><th>Size</th><th>Was of</th></tr></thead><tbody>
            {loose.map((each) => <tr key={each.metadata.uid}><td>{link('persistentvolumes', '', '', each.metadata.name)}</td><td><StatusPill text={each.status?.phase ?? ''} /></td><td class="mono">{each.spec.capacity?.storage}</td><td class="dim">{each.spec.claimRef && `${each.spec.claimRef.namespace}/${each.spec.claimRef.name}`}</td></tr>)}
          </tbody></table>}
        </Card>
      </div>
    </div>
  );
}
