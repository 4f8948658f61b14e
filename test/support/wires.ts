/**
 * Engine.IO and Socket.IO spoken by hand, over a websocket or by polling: every frame that the server sends is kept as it
 * came, so that no client library hides a byte, and the client may send what no library would.
 */

export interface Wire {
  /** What the server sent, one Engine.IO packet each. */
  readonly frames: string[];
  readonly send: (frame: string) => void;
  closed(): boolean;
  close(): void;
}

export type OpenWire = (url: string) => Wire | Promise<Wire>;

/** @param url of the bridge */
export function openWebSocket(url: string): Wire {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/socket.io/?EIO=4&transport=websocket`);
  const frames: string[] = [];
  let closed = false;
  socket.addEventListener('message', ({ data }) => {
    frames.push(String(data));
    if (data === '2') socket.send('3');
  });
  socket.addEventListener('close', () => {
    closed = true;
  });
  return { frames, send: (frame) => socket.send(frame), closed: () => closed, close: () => socket.close() };
}

/** @param url of the bridge */
export async function openPolling(url: string): Promise<Wire> {
  const base = `${url}/socket.io/?EIO=4&transport=polling`;
  const frames: string[] = [];
  const aborter = new AbortController();
  let closed = false;
  const poll = async (query: string): Promise<void> => {
    const response = await fetch(base + query, { signal: aborter.signal });
    const body = await response.text();
    if (response.ok) frames.push(...body.split('\x1e'));
    else closed = true;
  };
  await poll('');
  const { sid } = JSON.parse((frames[0] as string).slice(1)) as { sid: string };
  const waiting: string[] = [];
  let sending: Promise<unknown> = Promise.resolve();
  /** What is sent while a request is under way goes together in the next one. */
  const flush = async (): Promise<void> => {
    if (waiting.length === 0) return;
    const body = waiting.splice(0).join('\x1e');
    await (await fetch(`${base}&sid=${sid}`, { method: 'POST', body, signal: aborter.signal })).text();
  };
  const send = (frame: string): void => {
    waiting.push(frame);
    sending = sending.then(flush).catch(() => {});
  };
  void (async () => {
    for (let read = frames.length; !closed; ) {
      await poll(`&sid=${sid}`);
      for (; read < frames.length; read++) if (frames[read] === '2') send('3');
    }
  })().catch(() => {
    closed = true;
  });
  return { frames, send, closed: () => closed, close: () => aborter.abort() };
}
