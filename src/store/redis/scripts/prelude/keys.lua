-- The keys of a log. They share a hash tag, so that a log is one slot of a cluster. KEYS[1] is how all of them begin.
local PREFIX = KEYS[1]
-- Ids contain no comma (protocol §2), so ids joined by commas cannot clash.

-- Hash: epoch, keying, last + nonce (the head), trimmed + trimmedNonce (the newest trimmed record), and counters.
local META = PREFIX .. 'meta'
-- Stream: one entry per script run that appended. Its id is the first seq (`{seq}-0`) and its seqs have no gap. Its
-- value has one slot per record: nonce (4 characters) and time of acceptance (16 digits). A slot without a record is
-- the tombstone of an erased record, whose cursor stays valid.
local FEED = PREFIX .. 'feed'
local SLOT = 20
-- Stream of at most one entry: wakes the tails after a trim or an erasure.
local CHANGES = PREFIX .. 'changes'
-- Stream of the newest erasures, numbered 1, 2, … (`{number}-0`): the erasureKey of store.ts, which names nobody.
local ERASURES = PREFIX .. 'erasures'
-- By seq. String: header and payload (record.ts). The log needs the records after `trimmed`, and the state the records
-- to which it refers; a record that neither needs is deleted.
local RECORD = PREFIX .. 'record:'
-- By audience. List of rising seqs: 10 bytes per record, an append needs no search, and an empty list has no key.
local ROOM = PREFIX .. 'room:'
-- By tenant. Hash: ticket → entry `updatedAt,seq,ticket,agreement,status`.
local TICKETS = PREFIX .. 'tickets:'
-- By tenant. Sorted set of the same entries, in byte order.
local RECENT = PREFIX .. 'recent:'
-- By `tenant,agreement`. Set of tickets.
local AGREEMENT = PREFIX .. 'agreement:'
-- By `tenant,ticket`. List of rising seqs.
local MESSAGES = PREFIX .. 'messages:'
-- By tenant. Hash: `m,{messageId}` and `p,{ticket},{providerMessageId}` → `{seq} {nonce}`.
local DEDUPE = PREFIX .. 'dedupe:'
-- Sorted set: `tenant,ticket` by the time of its last event.
local STATE = PREFIX .. 'state'
-- Sorted set of idempotency keys by time; and by key, a string: the fingerprint, then the cursors of the answer.
local IDEMPOTENCY_INDEX = PREFIX .. 'idempotency'
local IDEMPOTENCY = PREFIX .. 'idempotency:'
-- Sorted set of session ids by expiry; by holder, the same of its sessions; and by session id, a hash: owner, holder,
-- data, expires, and a field with a prefix for each room.
local SESSION_INDEX = PREFIX .. 'sessions'
local SESSIONS_OF = PREFIX .. 'sessions:'
local SESSION = PREFIX .. 'session:'
local SESSION_ROOM = 'room '
-- Hash: name → secret.
local SECRETS = PREFIX .. 'secrets'
-- Sorted set of node ids by the time until which they are live; and a hash: node id → facts.
local NODES = PREFIX .. 'nodes'
local NODE_FACTS = PREFIX .. 'nodes:facts'
