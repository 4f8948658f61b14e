"""Keeps requests to the rules that OpenAPI cannot say: what depends on other parameters or on earlier requests."""

import re

import schemathesis

CURSOR = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,64}")
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt].*")
ROOM_OF_TENANT = re.compile(r"tenant:[^\s,\x00-\x1f\x7f-\x9f]{1,128}")


def is_id(value):
    return (isinstance(value, str) and value != "") or (isinstance(value, int) and not isinstance(value, bool))


def is_room_of_tenant(room):
    return isinstance(room, str) and ROOM_OF_TENANT.fullmatch(room) is not None


def keep_audience_in_tenant(event):
    """One tenant, in the payload or beside it; `tenant:` rooms are of that tenant. Values that are invalid stay."""
    if not isinstance(event, dict) or not isinstance(event.get("payload"), dict):
        return
    if event.get("event") == "leads.updated" and event.get("tenantId") is None:
        if event["payload"].get("tenantId") is None:
            event["tenantId"] = "t"
    own, beside, rooms = event["payload"].get("tenantId"), event.get("tenantId"), event.get("rooms")
    if is_id(own) and is_id(beside):
        event["tenantId"] = own
    tenant = own if is_id(own) else beside
    if isinstance(rooms, list) and is_id(tenant):
        event["rooms"] = [f"tenant:{tenant}" if is_room_of_tenant(room) else room for room in rooms]


@schemathesis.hook
def before_call(context, case, kwargs):
    query = case.query or {}
    # Only values that an earlier answer gave are known.
    query.pop("page", None)
    query.pop("lastEventId", None)
    query.pop("Last-Event-ID", None)
    after = query.get("after")
    if isinstance(after, str) and after not in ("start", "now") and CURSOR.fullmatch(after):
        query.pop("after")
    if case.path == "/log":
        query.pop("after", None)
        query.pop("before", None)
    # At least one filter.
    if case.path == "/connections" and case.method == "DELETE" and not query:
        query["sub"] = "u"
    # At least one room.
    if case.path in ("/events", "/sse", "/signals") and case.method == "GET" and not query.get("tenantId"):
        query["tenantId"] = "t"
    case.query = query
    if case.path == "/events" and case.method == "POST" and isinstance(case.body, dict):
        events = case.body.get("events")
        for event in [case.body, *(events if isinstance(events, list) else [])]:
            keep_audience_in_tenant(event)
    if case.path == "/signals" and case.method == "POST" and isinstance(case.body, dict):
        if is_room_of_tenant(case.body.get("room")):
            tenant = case.body.get("tenantId")
            case.body["room"] = f"tenant:{tenant if is_id(tenant) else 't'}"
    # At most a minute ahead of the clock.
    if case.path == "/revocations" and case.method == "POST" and isinstance(case.body, dict):
        before = case.body.get("before")
        if isinstance(before, str) and INSTANT.fullmatch(before):
            case.body.pop("before")
    # The same key with another body is a conflict.
    for name in [name for name in case.headers or {} if name.lower() in ("idempotency-key", "last-event-id")]:
        case.headers.pop(name)
