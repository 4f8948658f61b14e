// Every event of your rooms, once and in order, with the standard library of Go 1.21.
package main

import (
	"bufio"
	"context"
	"log"
	"math/rand"
	"net/http"
	"strings"
	"time"
)

func token(refused bool) string { return "none" } // if the bridge refused the last one, return a new one

func main() {
	cursor, retry, status, refused := "now", 2*time.Second, 0, false // "now", or the cursor that you saved
	for failures := 1; status != 400 && status != 403; failures = min(2*failures, 30) {
		ctx, cancel := context.WithCancel(context.Background())
		silence := time.AfterFunc(30*time.Second, cancel) // the bridge sends something every 15 s
		request, _ := http.NewRequestWithContext(ctx, "GET", "http://localhost:4003/sse?tenantId=tenant-1&legacy=false", nil)
		request.Header = http.Header{"Accept": {"text/event-stream"}, "Authorization": {"Bearer " + token(refused)}, "Last-Event-Id": {cursor}}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			status, refused = answer.StatusCode, answer.StatusCode == 401
			lines, fields := bufio.NewScanner(answer.Body), map[string]string{"id": cursor, "retry": "2000"}
			for lines.Buffer(nil, 1<<26); lines.Scan(); silence.Reset(30 * time.Second) { // a line of up to 64 MiB
				if name, value, isField := strings.Cut(lines.Text(), ": "); isField {
					fields[name] = value
				} else if retry, _ = time.ParseDuration(fields["retry"] + "ms"); lines.Text() == "" && fields["event"] != "" { // its end
					log.Println(fields["event"], fields["data"]) // handle it: after bridge.reset, read the state. Save fields["id"]
					refused = fields["event"] == "bridge.error" && strings.Contains(fields["data"], `"code":"token_`)
					cursor, failures, fields["event"] = fields["id"], 1, ""
				}
			}
		}
		time.Sleep(retry + time.Duration(rand.Int63n(int64(failures)*1e9)))
	}
	log.Fatal("the bridge refuses for good, and the body of its answer says why: ", status)
}
