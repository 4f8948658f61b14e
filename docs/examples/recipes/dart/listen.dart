// Every event of your rooms, once and in order. Install: flutter pub add http
import 'dart:convert';
import 'dart:math';
import 'package:http/http.dart' as http;

typedef Event = ({String name, String data, String cursor});

Future<String> token(bool refused) async => 'none'; // if the bridge refused the last one, return a new one

/// In an app: cancel the subscription in AppLifecycleListener.onPause, and listen from the saved cursor in onResume.
Stream<Event> listen(Uri url, {String after = 'now'}) async* {
  var (cursor, retryMs, refused) = (after, 2000, false);
  const silence = Duration(seconds: 30); // the bridge sends something every 15 s
  for (var failures = 1; ; failures = min(2 * failures, 30)) {
    final client = http.Client();
    try {
      final request = http.Request('GET', url)..headers.addAll({'Accept': 'text/event-stream', 'Last-Event-ID': cursor});
      request.headers['Authorization'] = 'Bearer ${await token(refused)}';
      final answer = await client.send(request).timeout(silence);
      refused = answer.statusCode == 401;
      if (answer.statusCode == 400 || answer.statusCode == 403) throw StateError(await answer.stream.bytesToString());
      final fields = {'id': cursor};
      await for (final line in answer.stream.timeout(silence).transform(utf8.decoder).transform(const LineSplitter())) {
        final colon = line.indexOf(': ');
        if (colon > 0) fields[line.substring(0, colon)] = line.substring(colon + 2);
        if (line.isNotEmpty || !fields.containsKey('event')) continue; // an empty line ends an event
        final (name, data) = (fields.remove('event')!, fields['data']!);
        (cursor, retryMs, failures) = (fields['id']!, int.parse(fields['retry'] ?? '2000'), 1);
        refused = name == 'bridge.error' && data.contains('"code":"token_');
        yield (name: name, data: data, cursor: cursor); // after bridge.reset, read the state: events are lost
      }
    } on Exception catch (error) {
      print('reconnecting: $error');
    } finally {
      client.close();
    }
    await Future<void>.delayed(Duration(milliseconds: retryMs + Random().nextInt(1000 * failures)));
  }
}
