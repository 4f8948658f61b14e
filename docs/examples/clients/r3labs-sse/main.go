// r3labs/sse: room for the largest event, and a loop, because Subscribe returns when a stream ends.
package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/r3labs/sse/v2"
)

func main() {
	// The buffer's default is 64 KiB. A longer line ends the stream, again at each attempt.
	client := sse.NewClient("http://localhost:4003/sse?tenantId=tenant-1&legacy=false", sse.ClientMaxBufferSize(1<<22))
	for {
		err := client.SubscribeRaw(func(event *sse.Event) {
			switch string(event.Event) {
			case "messages.new":
				var payload struct{ MessageID string }
				if err := json.Unmarshal(event.Data, &payload); err != nil {
					panic(err)
				}
				fmt.Println("messages.new", string(event.ID), payload.MessageID)
			case "bridge.reset":
				fmt.Println("events are lost, read the state:", string(event.Data))
			}
		})
		fmt.Println("reconnecting:", err)
		time.Sleep(2 * time.Second)
	}
}
