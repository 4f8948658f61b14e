# aiohttp: no limit on the whole request (its default ends a stream after five minutes), and a buffer for the longest line.
import asyncio
import json
import aiohttp

URL = 'http://localhost:4003/sse?tenantId=tenant-1&legacy=false'
# Heartbeats come every 15 s, so a stream that is silent for longer is dead.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=35)


async def main():
    last = None  # the newest cursor that was handled
    async with aiohttp.ClientSession(timeout=TIMEOUT, read_bufsize=2**20) as session:
        while True:
            headers = {'Accept': 'text/event-stream'} | ({'Last-Event-ID': last} if last else {})
            try:
                async with session.get(URL, headers=headers, raise_for_status=True) as stream:
                    fields = {}
                    async for line in stream.content:
                        name, _, value = line.decode().rstrip('\n').partition(': ')
                        if name:
                            fields[name] = value
                            continue
                        if fields.get('event') == 'messages.new':
                            print('messages.new', fields['id'], json.loads(fields['data'])['messageId'], flush=True)
                        elif fields.get('event') == 'bridge.reset':
                            print('events are lost, read the state:', fields['data'], flush=True)
                        last = fields.get('id', last)
                        fields = {}
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                print('reconnecting:', error, flush=True)
            await asyncio.sleep(2)

asyncio.run(main())
