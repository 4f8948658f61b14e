# Every event of your rooms, once and in order. Install: pip install httpx
import json
import random
import time
import httpx

URL = 'http://localhost:4003/sse?tenantId=tenant-1&legacy=false'

def handle(event, payload, cursor):  # save the cursor here
    if event in ('messages.new', 'bridge.reset', 'bridge.error'):  # after bridge.reset, read the state: events are lost
        print(event, payload.get('messageId', payload), flush=True)

def token(refused):  # if the bridge refused the last one, return a new one
    return 'none'

cursor, retry_ms, failures, refused = 'now', 2000, 0, False  # 'now', or the cursor that you saved
client = httpx.Client(timeout=httpx.Timeout(5, read=30))  # the bridge sends something every 15 s
while True:
    try:
        headers = {'Accept': 'text/event-stream', 'Authorization': f'Bearer {token(refused)}', 'Last-Event-ID': cursor}
        with client.stream('GET', URL, headers=headers) as answer:
            refused = answer.status_code == 401
            if answer.status_code in (400, 403):
                raise SystemExit(answer.read().decode())  # it says what is wrong; to repeat the request does not help
            answer.raise_for_status()
            rest = b''
            for chunk in answer.iter_bytes():  # iter_lines would cut a payload at U+2028
                *blocks, rest = (rest + chunk).split(b'\n\n')
                for block in blocks:
                    fields = dict(line.split(': ', 1) for line in block.decode().split('\n') if ': ' in line)
                    if 'event' in fields:
                        payload = json.loads(fields['data'])
                        refused = fields['event'] == 'bridge.error' and payload['code'].startswith('token_')
                        retry_ms, cursor, failures = int(fields.get('retry', retry_ms)), fields.get('id', cursor), 0
                        handle(fields['event'], payload, cursor)
    except httpx.HTTPError as error:
        print('reconnecting:', error, flush=True)
    time.sleep(retry_ms / 1000 + random.random() * min(30, 2**failures))
    failures += 1
