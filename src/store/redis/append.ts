/** The script that appends. Its arguments name things once for all requests of a group: cheap here, costly in Lua. */
import { formatCursor } from '../../contract/cursor.ts';
import type { AppendedEvent, AppendRequest, AppendResult } from '../store.ts';
import { openArgv } from './log.ts';
import { idText, kindOf } from './record.ts';
import { defineScript } from './script.ts';

/** A request whose events have their nonces and records: nonce, record, nonce, record, … */
export interface EncodedRequest {
  readonly request: AppendRequest;
  readonly encoded: readonly string[];
}

export type AppendReply =
  | { readonly kind: 'ok'; readonly results: readonly AppendResult[] }
  | { readonly kind: 'keying'; readonly keying: string };

export const APPEND = defineScript('append', buildArguments, (reply): AppendReply => {
  const [kind, value, ...answers] = reply as [kind: AppendReply['kind'], value: string, ...answers: string[]];
  return kind === 'keying'
    ? { kind, keying: value }
    : { kind, results: answers.map((answer) => parseResult(value, answer)) };
});

/** A reference to a name. Its number, in the order of the list of names, is known once the list is complete. */
interface NameReference {
  number: string;
}

/** Names by tenant, each once. */
function createNames() {
  const byTenant = new Map<string, Map<string, NameReference>>();
  return {
    refer(tenantId: string, name: string): NameReference {
      const names = byTenant.get(tenantId) ?? new Map<string, NameReference>();
      const reference = names.get(name) ?? { number: '' };
      byTenant.set(tenantId, names.set(name, reference));
      return reference;
    },
    /** Numbers the references. Returns the number of tenants; per tenant its id, the number of names, the names. */
    list(): string[] {
      const args = [String(byTenant.size)];
      let number = 0;
      for (const [tenantId, names] of byTenant) {
        args.push(tenantId, String(names.size));
        for (const [name, reference] of names) {
          reference.number = String(++number);
          args.push(name);
        }
      }
      return args;
    },
  };
}

/** append.lua documents the order. */
function buildArguments(group: { readonly keying: string; readonly requests: readonly EncodedRequest[] }): string[] {
  const dedupe = createNames();
  const tickets = createNames();
  const rooms = createNames();
  const requestArgs: (string | NameReference)[] = [String(group.requests.length)];
  for (const { request, encoded } of group.requests) {
    const { idempotency, acceptedAtMs, events } = request;
    const moment = String(acceptedAtMs).padStart(16, '0');
    requestArgs.push(idempotency?.key ?? '', idempotency?.fingerprint ?? '', moment, String(events.length));
    const sizeIndex = requestArgs.push('') - 1;
    events.forEach((event, index) => {
      const { tenantId, ticket, message, audiences } = event;
      requestArgs.push(encoded[2 * index] as string, encoded[2 * index + 1] as string, kindOf(event));
      requestArgs.push(String(audiences.length));
      for (const audience of audiences) requestArgs.push(rooms.refer('', audience));
      if (ticket) {
        requestArgs.push(tickets.refer(tenantId, ticket.ticketId));
        requestArgs.push(ticket.agreementId ?? '', ticket.status, ticket.updatedAt);
      } else if (message) {
        const { ticketId, messageId, providerMessageId } = message;
        requestArgs.push(tickets.refer(tenantId, ticketId));
        requestArgs.push(messageId ? dedupe.refer(tenantId, `m,${idText(messageId)}`) : '0');
        requestArgs.push(
          providerMessageId ? dedupe.refer(tenantId, `p,${ticketId},${idText(providerMessageId)}`) : '0',
        );
      }
    });
    requestArgs[sizeIndex] = String(requestArgs.length - sizeIndex - 1);
  }
  const args = [...openArgv(group.keying), ...dedupe.list(), ...tickets.list(), ...rooms.list()];
  for (const arg of requestArgs) args.push(typeof arg === 'string' ? arg : arg.number);
  return args;
}

function parseResult(epoch: string, answer: string): AppendResult {
  if (answer === 'conflict') return { kind: 'conflict' };
  const [marks, ...ids] = answer.split('\n') as [string, ...string[]];
  const events = ids.map((text, index): AppendedEvent => {
    const [seq, nonce] = text.split(' ') as [string, string];
    const id = formatCursor({ epoch, seq: Number(seq), nonce });
    return { id, duplicate: marks === 'repeat' || marks[index] === '=' };
  });
  return { kind: 'appended', events, durableAtMs: performance.now() };
}
