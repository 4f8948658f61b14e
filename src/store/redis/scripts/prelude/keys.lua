-- The keys of a log. They share a hash tag, so that a log is one slot of a cluster. KEYS[1] is how all of them begin.
local PREFIX = KEYS[1]
-- Ids contain no comma (protocol §2), so ids joined by commas cannot clash.

-- Hash: format, epoch, keying, last + nonce (the head), trimmed + trimmedNonce (the newest trimmed record), counters,
-- `upgrade` while entries of format 1 are left, and drift: the most ms between the time of acceptance of a record and the
-- time in its seq, which is that of Redis in microseconds; of the records from driftFrom on.
local META = PREFIX .. 'log'
-- What the scripts here read and write. Change it together with upgradeLog() in log.lua.
local FORMAT = '2'
-- Format 1 had META here. Now it is a text, so that every script of a node of format 1 fails before it reads or writes.
local FORMAT_1 = PREFIX .. 'meta'
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
-- By audience, and by tenant or ticket for its records that went to other rooms only (listsOf). List of rising seqs: 10
-- bytes per record, an append needs no search, and an empty list has no key.
local ROOM = PREFIX .. 'room:'
-- By tenant. Hash: ticket → entry `updatedAt,seq,ticket,agreement,status`. If the record did not go to the rooms of exactly
-- its tenant, ticket and agreement, its rooms follow the agreement, each after a space.
local TICKETS = PREFIX .. 'tickets:'
-- By tenant. Sorted set of the same entries, in byte order.
local RECENT = PREFIX .. 'recent:'
-- By `tenant,agreement`. Set of tickets.
local AGREEMENT = PREFIX .. 'agreement:'
-- By `tenant,room`. Sorted set of the same entries, of the rooms by which no other key finds the ticket.
local SHOWN = PREFIX .. 'shown:'
-- By `tenant,ticket`. List of rising seqs: the `messages.new`.
local MESSAGES = PREFIX .. 'messages:'
-- By tenant. Hash of the names of messages: `i,{ticket},{messageId}` and `p,{ticket},{providerMessageId}` → `{seq} {nonce}` of
-- the `messages.new`, or `?{seq}` of the first change of a message that has none yet. In format 1: `m,{messageId}`.
local DEDUPE = PREFIX .. 'dedupe:'
-- By `tenant,ticket`. Hash of what changes did to messages: the seq of a message's first record → `seq,instant,rank` of the
-- record that is shown; `x` if it was deleted; `>` and the value of a name, if it turned out to be that message. And
-- `+{name}` for each name that a change gave.
local CHANGED = PREFIX .. 'changed:'
-- Sorted set: what was erased, hashed, by the time in ms. Repeats of what came before are no repeats.
local FRESH = PREFIX .. 'fresh'
-- Sorted set: `tenant,ticket` by the time of its last event.
local STATE = PREFIX .. 'state'
-- Sorted set of idempotency keys by time; and by key, a string: the fingerprint, then for each event of the answer its
-- cursor, and the seq of the record whose rooms it has, if they are not those of the request. Among the keys are hashes of
-- changes of messages, with the cursor alone.
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
-- Sorted set: CLAIMED_ROOM_KINDS of live nodes, by the time in ms until which one of them is surely live.
local CLAIMED = PREFIX .. 'claimed'
-- Sorted set of node ids by the time until which they are live; and a hash: node id → facts.
local NODES = PREFIX .. 'nodes'
local NODE_FACTS = PREFIX .. 'nodes:facts'
