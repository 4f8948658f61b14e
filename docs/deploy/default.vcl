vcl 4.1;
# Varnish (>= 6.0) in front of one bridge. Install as /etc/varnish/default.vcl and set TRUST_PROXY=1 at the bridge. The
# same holds for any cache: it must pass /events and /sse (and what a token reads) and cache none of it.
#   SSE          piped: in a pass, Varnish keeps what a stream has sent in memory until the stream ends
#   WebSocket    piped
#   long polls   passed: the time-out of the first byte must be above their 25 s
# Run `varnishd` with `-p pipe_timeout=75`: above the heartbeat of 15 s and Engine.IO's ping of 25 s.
# The query may hold a token or a pass, and so may a Referer. The format of `varnishncsa` has both; run it as
#   varnishncsa -F '%h %t "%m %U" %s %O %D "%{User-Agent}i"'

import std;

backend roomcast {
    .host = "127.0.0.1";
    .port = "4003";
    .connect_timeout = 2s;
    .first_byte_timeout = 75s;
    .between_bytes_timeout = 75s;
    .probe = { .url = "/healthz"; .interval = 1s; .window = 3; .threshold = 2; .initial = 2; }
}

sub vcl_recv {
    # Metrics are internal. Scrape the node directly, at METRICS_PORT. Varnish compares the path as it came, while the
    # bridge decodes it and resolves its dot segments. So refuse dot segments and encoded letters and dots, too: no client
    # sends them. With BASE_PATH=/bridge the first expression is ^/+bridge/+metrics([/?#]|$).
    if (req.url ~ "^/+metrics([/?#]|$)"
        || req.url ~ "^[^?]*/\.\.?([/?#]|$)"
        || req.url ~ "(?i)^[^?]*%(2e|[46][1-9a-f]|[57][0-9a])") {
        return (synth(404));
    }
    if (!std.healthy(req.backend_hint) && req.http.Accept ~ "text/event-stream") {
        return (synth(200));
    }
    if (req.http.Upgrade ~ "(?i)^websocket$" || req.url ~ "^/sse([?]|$)") {
        return (pipe);
    }
    return (pass);
}

sub vcl_pipe {
    # One request for each connection: Varnish does not see a second one. (An upgrade takes the connection anyway.)
    if (req.http.Upgrade ~ "(?i)^websocket$") {
        set bereq.http.Upgrade = req.http.Upgrade;
        set bereq.http.Connection = "Upgrade";
    } else {
        set bereq.http.Connection = "close";
    }
}

# EventSource never reconnects after a status other than 200. While the node is not up, tell it to reconnect, as the bridge
# does.
sub vcl_synth {
    if (resp.status == 200) {
        set resp.http.Content-Type = "text/event-stream";
        set resp.http.Cache-Control = "no-store";
        synthetic("""retry: 5000
event: bridge.error
data: {"code":"unavailable","message":"no node is there"}

""");
        return (deliver);
    }
}
