// Events about an object, newest first; the same ones are counted.
import type { Obj } from '../lib/api';
import { find } from '../lib/discovery';
import { useObjects } from '../lib/live';
import { Age, Card, Empty, Failure, StatusPill } from '../ui/basics';

export const lastSeen = (event: Obj): string => event.series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.firstTimestamp ?? event.metadata.creationTimestamp;
const times = (event: Obj) => event.series?.count ?? event.count ?? 1;

export function useEvents(object: Obj | undefined) {
  const namespace = object?.metadata.namespace ?? (object ? 'default' : '');
  const uid = object?.kind === 'Node' ? undefined : object?.metadata.uid;
  const query = uid ? { fieldSelector: `involvedObject.uid=${uid}` } : { fieldSelector: `involvedObject.kind=${object?.kind},involvedObject.name=${object?.metadata.name}` };
  const list = useObjects(object ? find('events') : undefined, namespace, query);
  const events = [...list.items.value].sort((a, b) => (lastSeen(a) < lastSeen(b) ? 1 : -1));
  return { events, error: list.error.value };
}

export function EventTable({ events }: { events: Obj[] }) {
  if (!events.length) return <Empty title="No events">The cluster keeps them for an hour.</Empty>;
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="Events" style={{ maxHeight: '420px' }}>
      <table class="plain">
        <thead><tr><th>Type</th><th>Reason</th><th>Message</th><th>From</th><th>Last</th></tr></thead>
        <tbody>
          {events.slice(0, 200).map((event) => (
            <tr key={event.metadata.uid}>
              <td><StatusPill text={event.type ?? ''} /></td>
              <td>{event.reason}</td>
              <td>{event.message}{times(event) > 1 && <span class="dim"> · {times(event)} times</span>}</td>
              <td class="dim">{event.source?.component || event.reportingComponent}</td>
              <td class="dim"><Age time={lastSeen(event)} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function Events({ object }: { object: Obj }) {
  const { events, error } = useEvents(object);
  return <Card title="Events" bare>{error ? <Failure error={error} /> : <EventTable events={events} />}</Card>;
}
