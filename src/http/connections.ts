/**
 * The TCP connections of the server, and whose turn it is on each: requests on one connection are served one at a time
 * (protocol §16). Node's parser emits every request of a packet at once, so pipelined ones wait here.
 *
 * It also knows which connections are idle. Node's own `closeIdleConnections` leaves out the connections that never sent
 * a request. Browsers open such connections ahead of need, and a drain would wait for them.
 */
import type { Socket } from 'node:net';
import type { BridgeResponse } from '../answers/headers.ts';

/** Requests that wait on one connection before nothing more is read from it. What arrived with them waits too. */
const PAUSE_AT = 16;
/** A connection with more is cut. A request takes a few kilobytes of memory, and a packet of 64 KB can hold thousands. */
const MAX_WAITING = 512;

interface Connection {
  isBusy: boolean;
  readonly waiting: BridgeResponse[];
}

export interface Connections {
  add(socket: Socket): void;
  /** Serves the request once the responses before this one have been sent. False: too many wait, and the connection was cut. */
  serveInTurn(response: BridgeResponse): boolean;
  /** Takes the turn for good, for a protocol that is not HTTP. False: a response is still to be sent. */
  takeTurn(socket: Socket): boolean;
  destroyIdle(): void;
  destroyAll(): void;
}

/** @param serve begins to serve the request of a response */
export function createConnections(serve: (response: BridgeResponse) => void): Connections {
  const connections = new Map<Socket, Connection>();

  function begin(response: BridgeResponse): void {
    response.on('close', endTurn);
    serve(response);
  }

  function endTurn(this: BridgeResponse): void {
    const { socket } = this.req;
    const connection = connections.get(socket);
    if (connection === undefined) return;
    const { waiting } = connection;
    const next = socket.writable ? waiting.shift() : undefined;
    connection.isBusy = next !== undefined;
    if (next !== undefined) begin(next);
    if (waiting.length === PAUSE_AT - 1) socket.resume();
  }

  return {
    add(socket) {
      const connection: Connection = { isBusy: false, waiting: [] };
      connections.set(socket, connection);
      socket.on('close', () => {
        connections.delete(socket);
        connection.waiting.length = 0;
      });
      // Node resumes the socket for reasons of its own, such as a request whose body nobody reads.
      socket.on('resume', () => {
        if (connection.waiting.length >= PAUSE_AT) socket.pause();
      });
    },

    serveInTurn(response) {
      const { socket } = response.req;
      const connection = connections.get(socket);
      // The rest of a packet whose connection was cut.
      if (connection === undefined || socket.destroyed) return true;
      const { waiting } = connection;
      if (!connection.isBusy) {
        connection.isBusy = true;
        begin(response);
        return true;
      }
      waiting.push(response);
      if (waiting.length >= PAUSE_AT) socket.pause();
      if (waiting.length <= MAX_WAITING) return true;
      socket.destroy();
      return false;
    },

    takeTurn(socket) {
      const connection = connections.get(socket);
      if (connection?.isBusy !== false) return false;
      connection.isBusy = true;
      return true;
    },

    destroyIdle() {
      for (const [socket, { isBusy }] of connections) if (!isBusy) socket.destroy();
    },
    destroyAll() {
      for (const socket of connections.keys()) socket.destroy();
    },
  };
}
