// Files of a container: listed, saved and sent by the programs that it has, as kubectl cp does with tar.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import type { Obj } from '../lib/api';
import { output, type Target } from '../lib/exec';
import { attempt, say } from '../lib/state';
import { bytes } from '../lib/amounts';
import { download } from '../lib/util';
import { Button, Icon } from '../ui/basics';

interface Entry {
  name: string;
  folder: boolean;
  link: string;
  mode: string;
  owner: string;
  size: number;
  time: string;
}

const join = (folder: string, name: string) => (folder === '/' ? `/${name}` : `${folder}/${name}`);

export function parseListing(text: string): Entry[] {
  const entries: Entry[] = [];
  for (const line of text.split('\n')) {
    const match = /^([bcdlps-][rwxsStT-]{9})\S*\s+\d+\s+(\S+)\s+(\S+)\s+(\d+(?:,\s*\d+)?)\s+(\S+\s+\d+\s+[\d:]+|\S+ \S+(?: [+-]\d{4})?)\s(.*)$/.exec(line);
    if (!match) continue;
    const [, mode, owner, , size, time, rest] = match;
    const [name, link = ''] = mode[0] === 'l' ? rest.split(' -> ') : [rest];
    if (name !== '.' && name !== '..') entries.push({ name, link, mode, owner, folder: mode[0] === 'd', size: Number(size) || 0, time });
  }
  return entries.sort((a, b) => Number(b.folder) - Number(a.folder) || (a.name < b.name ? -1 : 1));
}

// The first file of a tar archive.
export function fromTar(data: Uint8Array): Uint8Array {
  let at = 0;
  while (at + 512 <= data.length) {
    const size = parseInt(new TextDecoder().decode(data.subarray(at + 124, at + 136)).replace(/[\0 ]/g, '') || '0', 8);
    const type = String.fromCharCode(data[at + 156]);
    if (type === '0' || type === '\0') return data.subarray(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  throw new Error('the archive holds no file');
}

export function toTar(name: string, data: Uint8Array): Uint8Array {
  const whole = new Uint8Array(512 + Math.ceil(data.length / 512) * 512 + 1024);
  const put = (text: string, at: number) => whole.set(new TextEncoder().encode(text), at);
  put(name.slice(0, 99), 0);
  put('0000644\0', 100);
  put('0000000\0', 108);
  put('0000000\0', 116);
  put(`${data.length.toString(8).padStart(11, '0')}\0`, 124);
  put(`${Math.floor(Date.now() / 1000).toString(8).padStart(11, '0')}\0`, 136);
  put('        0', 148);
  put('ustar\x0000', 257);
  const sum = whole.subarray(0, 512).reduce((total, each) => total + each, 0);
  put(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  whole.set(data, 512);
  return whole;
}

export function Files({ pod }: { pod: Obj }) {
  const container = useSignal(pod.spec.containers[0].name as string);
  const folder = useSignal('/');
  const entries = useSignal<Entry[] | undefined>(undefined);
  const error = useSignal('');
  const picker = useRef<HTMLInputElement>(null);
  const target: Target = { namespace: pod.metadata.namespace, pod: pod.metadata.name, container: container.value };
  const load = async () => {
    entries.value = undefined;
    error.value = '';
    try {
      entries.value = parseListing(new TextDecoder().decode(await output(target, ['ls', '-la', `${folder.value === '/' ? '' : folder.value}/`], 4 << 20)));
    } catch (failure) {
      error.value = (failure as Error).message;
    }
  };
  useEffect(() => void load(), [container.value, folder.value]);
  const save = async (entry: Entry) => {
    try {
      const archive = await output(target, ['tar', 'cf', '-', '-C', folder.value, entry.name]);
      if (entry.folder) download(`${entry.name}.tar`, archive as BlobPart, 'application/x-tar');
      else download(entry.name, fromTar(archive) as BlobPart);
    } catch (failure) {
      say((failure as Error).message, 'bad');
    }
  };
  const send = async (files: FileList | null) => {
    for (const file of files ?? []) {
      const data = toTar(file.name, new Uint8Array(await file.arrayBuffer()));
      await attempt(`${file.name} is in ${folder.value}`, () => output(target, ['tar', 'xf', '-', '-C', folder.value], 1 << 20, data));
    }
    await load();
  };
  const parts = folder.value.split('/').filter(Boolean);
  return (
    <div class="col">
      <div class="row wrap">
        {pod.spec.containers.length > 1 && (
          <select class="field" aria-label="Container" value={container.value} onChange={(event) => ((container.value = event.currentTarget.value), (folder.value = '/'))}>
            {pod.spec.containers.map((each: Obj) => <option key={each.name} value={each.name}>{each.name}</option>)}
          </select>
        )}
        <nav class="crumbs grow mono" aria-label="Folder">
          <Button kind="quiet" onClick={() => (folder.value = '/')}>/</Button>
          {parts.map((part, at) => <Button key={at} kind="quiet" onClick={() => (folder.value = `/${parts.slice(0, at + 1).join('/')}`)}>{part} /</Button>)}
        </nav>
        <input ref={picker} type="file" multiple hidden onChange={(event) => send(event.currentTarget.files)} />
        <Button icon="upload" onClick={() => picker.current?.click()}>Send a file here</Button>
        <Button icon="restart" label="Read again" onClick={load} />
      </div>
      {error.value && <div class="note bad" role="alert">{error.value}</div>}
      <div class="card scroll">
        <table class="plain">
          <thead><tr><th>Name</th><th class="right">Size</th><th>Mode</th><th>Owner</th><th>Changed</th><th><span class="sr">Save</span></th></tr></thead>
          <tbody>
            {(entries.value ?? []).map((entry) => (
              <tr key={entry.name}>
                <td><span class="row"><Icon name={entry.folder ? 'folder' : 'file'} />{entry.folder ? <a href={location.hash} onClick={(event) => (event.preventDefault(), (folder.value = join(folder.value, entry.name)))}>{entry.name}</a> : entry.name}{entry.link && <span class="dim">→ {entry.link}</span>}</span></td>
                <td class="right mono">{entry.folder ? '' : bytes(entry.size)}</td>
                <td class="mono dim">{entry.mode}</td>
                <td class="dim">{entry.owner}</td>
                <td class="dim">{entry.time}</td>
                <td class="right"><Button icon="download" label={`Save ${entry.name}`} kind="quiet" onClick={() => save(entry)} /></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
