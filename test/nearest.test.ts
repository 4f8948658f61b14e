/** What an error message suggests in place of a misspelt name. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest } from '../src/contract/nearest.ts';

const PARAMETERS = ['tenantId', 'ticketId', 'agreementId', 'userId', 'events', 'legacy', 'after', 'limit', 'wait', 't'];
const EVENTS = ['tickets.updated', 'messages.new', 'ticket.updated', 'ticket.message', 'message:created', 'leads.new'];

const cases: readonly (readonly [string, readonly string[], string | null])[] = [
  ['tenantID', PARAMETERS, 'tenantId'],
  ['tenant_id', PARAMETERS, 'tenantId'],
  ['tenant', PARAMETERS, 'tenantId'],
  ['tenatnId', PARAMETERS, 'tenantId'],
  ['tiketId', PARAMETERS, 'ticketId'],
  ['event', PARAMETERS, 'events'],
  ['limti', PARAMETERS, 'limit'],
  ['wiat', PARAMETERS, 'wait'],
  ['messages.neww', EVENTS, 'messages.new'],
  ['message.new', EVENTS, 'messages.new'],
  ['messages:new', EVENTS, 'messages.new'],
  ['message.created', EVENTS, 'message:created'],
  ['ticket.updated', EVENTS, 'ticket.updated'],
  ['token', ['access_token', 'pass'], 'access_token'],
  ['x', PARAMETERS, null],
  ['', PARAMETERS, null],
  ['__', PARAMETERS, null],
  ['color', PARAMETERS, null],
  ['invoices.paid', EVENTS, null],
  ['events', [], null],
  ['tenantId'.repeat(100), PARAMETERS, null],
];

for (const [name, known, expected] of cases) {
  test(`nearest to "${name.slice(0, 20)}" is ${expected ?? 'nothing'}`, () => {
    assert.equal(nearest(name, known), expected);
  });
}
