// Commands in containers: exec by WebSocket, with Kubernetes' channels (v5.channel.k8s.io).
import { socket } from './api';
import { enc } from './util';

const [STDIN, STDOUT, STDERR, FAILURE, RESIZE, CLOSE] = [0, 1, 2, 3, 4, 255];

export interface Target {
  namespace: string;
  pod: string;
  container: string;
}

export interface Running {
  write(data: Uint8Array | string): void;
  endInput(): void;
  resize(columns: number, rows: number): void;
  close(): void;
}

interface Events {
  output(data: Uint8Array): void;
  errors?(data: Uint8Array): void;
  open?(): void;
  end(failure: string): void;
}

export function execPath({ namespace, pod, container }: Target, command: string[], stdin: boolean, tty: boolean): string {
  const query = new URLSearchParams({ container, stdin: String(stdin), stdout: 'true', stderr: String(!tty), tty: String(tty) });
  for (const word of command) query.append('command', word);
  return `/api/v1/namespaces/${enc(namespace)}/pods/${enc(pod)}/exec?${query}`;
}

export function run(target: Target, command: string[], options: { stdin?: boolean; tty?: boolean }, on: Events): Running {
  const connection = socket(execPath(target, command, !!options.stdin, !!options.tty), 'v5.channel.k8s.io');
  let failure = '';
  let opened = false;
  const send = (channel: number, data: Uint8Array) => {
    if (connection.readyState !== WebSocket.OPEN) return;
    const message = new Uint8Array(data.length + 1);
    message[0] = channel;
    message.set(data, 1);
    connection.send(message);
  };
  connection.onopen = () => ((opened = true), on.open?.());
  connection.onmessage = (event) => {
    const message = new Uint8Array(event.data as ArrayBuffer);
    const data = message.subarray(1);
    if (message[0] === STDOUT) on.output(data);
    else if (message[0] === STDERR) on.errors?.(data);
    else if (message[0] === FAILURE) {
      const status = JSON.parse(new TextDecoder().decode(data));
      if (status.status !== 'Success') failure = status.message || 'the command failed';
    }
  };
  connection.onclose = () => on.end(opened ? failure : 'the command could not be started: you may not be allowed to, or the container does not run');
  return {
    write: (data) => send(STDIN, typeof data === 'string' ? new TextEncoder().encode(data) : data),
    endInput: () => send(CLOSE, new Uint8Array([STDIN])),
    resize: (Width, Height) => send(RESIZE, new TextEncoder().encode(JSON.stringify({ Width, Height }))),
    close: () => connection.close(),
  };
}

// Run to the end; rejects with what the command said on stderr. `most` bytes of output at most.
export function output(target: Target, command: string[], most = 64 << 20, input?: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const pieces: Uint8Array[] = [];
    let size = 0;
    let said = '';
    const running = run(target, command, { stdin: input !== undefined }, {
      open: () => {
        if (!input) return;
        for (let at = 0; at < input.length; at += 32768) running.write(input.subarray(at, at + 32768));
        running.endInput();
      },
      output: (data) => {
        size += data.length;
        if (size > most) {
          running.close();
          reject(new Error(`more than ${most >> 20} MiB; use kubectl cp`));
        } else pieces.push(data.slice());
      },
      errors: (data) => (said += new TextDecoder().decode(data)),
      end: (failure) => {
        if (failure) return reject(new Error(said.trim() || failure));
        const whole = new Uint8Array(size);
        let at = 0;
        for (const piece of pieces) (whole.set(piece, at), (at += piece.length));
        resolve(whole);
      },
    });
  });
}
