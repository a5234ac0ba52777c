package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// TestConnectionsPinNothingOfTheirRequests: a connection keeps names out of its request, for hours. None
// of them may keep the request line or a header line in memory with it, which strangers' cookies,
// proxies and hostile members make as long as they like.
func TestConnectionsPinNothingOfTheirRequests(t *testing.T) {
	overEach(t, connectionsPinNothingOver)
}

func connectionsPinNothingOver(t *testing.T, over via) {
	t.Helper()
	const connections, long = 20, 200 << 10 // crypto/tls keeps a buffer of up to 32 KiB
	h := &hooks{connect: func(_ context.Context, c consumer.Conn) error {
		if c.Param("what") == "" || c.Query().Get("q") == "" {
			t.Errorf("got parameter %q and query %v", c.Param("what"), c.Query())
		}
		return nil
	}}
	filler := strings.Repeat("a", long)
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, setup{routes: []consumer.Route{h.route("/ws/kept/{what}")}, options: gateway.Options{CloseTimeout: 100 * time.Millisecond}})
			dial := n.dial
			if secure {
				dial = dialTLS(testkit.DialTCP(n.listen(false, true)))
			}
			cookie := n.cookie("ada", "acme")
			open := func(handshake func(i int) testkit.Handshake) (held int64) {
				before := liveHeap()
				for i := range connections {
					hs := handshake(i)
					hs.Header.Set("Origin", origin)
					testkit.Connect(t, dial, hs)
				}
				return liveHeap() - before
			}
			path := func(i int) string { return fmt.Sprintf("/ws/kept/thing-%d?q=%d&group=room.%d", i, i, i) }
			short := func(i int) testkit.Handshake {
				header := http.Header{"Cookie": {cookie}, "Sec-Websocket-Protocol": {consumer.ProtocolV1}}
				if over == streams {
					header.Set("Last-Event-ID", "1-1")
					return gotten(path(i), header)
				}
				return testkit.Handshake{Path: path(i), Header: header}
			}
			open(short) // pools are full from now on
			usual := open(short)
			for part, change := range map[string]func(*testkit.Handshake){
				"request line": func(h *testkit.Handshake) { h.Path = "http://" + filler + h.Path },
				"cookies":      func(h *testkit.Handshake) { h.Header.Set("Cookie", "other="+filler+"; "+cookie) },
				"subprotocols": func(h *testkit.Handshake) {
					h.Header.Set("Sec-Websocket-Protocol", filler+", "+consumer.ProtocolV1+", "+filler)
				},
				"extensions": func(h *testkit.Handshake) { h.Header.Set("Sec-Websocket-Extensions", "permessage-deflate, x-"+filler) },
				"other header": func(h *testkit.Handshake) {
					h.Header.Set("User-Agent", filler)
					h.Header.Set("X-Forwarded-For", filler)
				},
			} {
				held := open(func(i int) testkit.Handshake {
					hs := short(i)
					change(&hs)
					return hs
				})
				if more := held - usual; more > connections*long/4 {
					t.Errorf("%s: %d bytes for each connection more than usual, of %d", part, more/connections, long)
				}
			}
			n.expectRefused(t, n.handshake("/ws/kept/"+strings.Repeat("a", 2048), "ada", "acme", nil), 404, "unknown_path", false)
			n.stop()
		})
	}
}

// liveHeap returns how many bytes are in use, without garbage.
func liveHeap() int64 {
	var m runtime.MemStats
	for range 3 { // what pools and finalizers held on to goes with the second and third
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
