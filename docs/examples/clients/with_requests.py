# requests: read bytes, and decode each line by itself. With decode_unicode=True, iter_lines cuts a line at U+2028.
import json
import time
import requests

last = None  # the newest cursor that was handled
while True:
    headers = {'Accept': 'text/event-stream'} | ({'Last-Event-ID': last} if last else {})
    try:
        # Heartbeats come every 15 s, so a stream that is silent for longer is dead.
        with requests.get('http://localhost:4003/sse?tenantId=tenant-1&legacy=false',
                          headers=headers, stream=True, timeout=(5, 35)) as stream:
            stream.raise_for_status()
            fields = {}
            for line in stream.iter_lines():
                name, _, value = line.decode().partition(': ')
                if name:
                    fields[name] = value
                    continue
                if fields.get('event') == 'messages.new':
                    print('messages.new', fields['id'], json.loads(fields['data'])['messageId'], flush=True)
                elif fields.get('event') == 'bridge.reset':
                    print('events are lost, read the state:', fields['data'], flush=True)
                last = fields.get('id', last)
                fields = {}
    except requests.RequestException as error:
        print('reconnecting:', error, flush=True)
    time.sleep(2)
