# httpx: split the bytes at b'\n'. Its iter_lines cuts a line at U+2028, which a payload may hold.
import json
import time
import httpx

last = None  # the newest cursor that was handled


def lines(response):
    rest = b''
    for chunk in response.iter_bytes():
        *whole, rest = (rest + chunk).split(b'\n')
        for line in whole:
            yield line.decode()


# Heartbeats come every 15 s, so a stream that is silent for longer is dead. The default of 5 s is too short.
client = httpx.Client(timeout=httpx.Timeout(5, read=35))
while True:
    headers = {'Accept': 'text/event-stream'} | ({'Last-Event-ID': last} if last else {})
    try:
        with client.stream('GET', 'http://localhost:4003/sse?tenantId=tenant-1&legacy=false', headers=headers) as stream:
            stream.raise_for_status()
            fields = {}
            for line in lines(stream):
                name, _, value = line.partition(': ')
                if name:
                    fields[name] = value
                    continue
                if fields.get('event') == 'messages.new':
                    print('messages.new', fields['id'], json.loads(fields['data'])['messageId'], flush=True)
                elif fields.get('event') == 'bridge.reset':
                    print('events are lost, read the state:', fields['data'], flush=True)
                last = fields.get('id', last)
                fields = {}
    except httpx.HTTPError as error:
        print('reconnecting:', error, flush=True)
    time.sleep(2)
