package gateway_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// announce returns the header of a client's frame whose mask changes nothing.
func announce(first byte, length uint64) []byte {
	head := []byte{first, 0xff}
	head = binary.BigEndian.AppendUint64(head, length)
	return append(head, 0, 0, 0, 0)
}

// TestEndlessMessage: a message ends its connection with 1009 for what it announces, or for what it
// is on the wire, however little comes out of it.
func TestEndlessMessage(t *testing.T) {
	const limit = 1000
	nothing := announce(0x00, 0) // a continuation without FIN
	ping := testkit.Frame{Opcode: testkit.OpPing, Payload: bytes.Repeat([]byte{'x'}, 125)}.Bytes()
	stored := []byte{0, 0, 0, 0xff, 0xff}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, sent := range map[string][]byte{
		"announced":                          announce(0x81, limit+1),
		"announced, compressed":              announce(0xc1, 1<<50),
		"announced, compressed, just enough": announce(0xc1, limit+limit/8+65),
		"announced by a fragment":            join(announce(0x41, 5), stored, announce(0x00, 1<<50)),
		"fragments that add up":              join(announce(0x01, limit-1), bytes.Repeat([]byte{'x'}, limit-1), announce(0x00, 2)),
		"empty blocks in fragments":          join(announce(0x41, 5), stored, bytes.Repeat(join(announce(0x00, 5), stored), limit/5)),
		"empty fragments":                    join(announce(0x01, 0), bytes.Repeat(nothing, 2*limit/len(nothing)+100)),
		"empty fragments, compressed":        join(announce(0x41, 0), bytes.Repeat(nothing, 2*limit/len(nothing)+100)),
		"pings between fragments":            join(announce(0x01, 1), []byte{'x'}, bytes.Repeat(ping, 40)),
	} {
		for place, pipe := range map[string]bool{"tcp": false, "memory": true} {
			t.Run(name+", "+place, func(t *testing.T) {
				s := setup{options: gateway.Options{Compress: true, MaxFrame: limit, FramesPerSecond: 1e9, FrameBurst: 1e6}}
				if pipe {
					s.pipe = testkit.Listen()
				}
				n := startNode(t, s)
				c := n.connectDeflate("ada", "acme")
				go func() { _, _ = c.Write(sent) }() // the server may stop reading before the end
				for {
					f, err := c.ReadFrame()
					if err != nil {
						t.Fatalf("got %v, want a close frame", err)
					}
					if f.Opcode == testkit.OpPong {
						continue
					}
					if code, _ := f.Close(); f.Opcode != testkit.OpClose || code != 1009 {
						t.Fatalf("got %v, want a close frame 1009", f)
					}
					break
				}
				_ = c.Close()
				n.expectConnections(0)
			})
		}
	}
}

// TestLargestMessages: what is just within the limit passes, however it is divided.
func TestLargestMessages(t *testing.T) {
	const limit = 1000
	got := make(chan int, 1) // one message at a time
	h := &hooks{receive: func(_ context.Context, _ consumer.Conn, f event.RawMessage) error { got <- len(f.Data); return nil }}
	n := startNode(t, setup{
		options: gateway.Options{Compress: true, MaxFrame: limit, FramesPerSecond: 1e9, FrameBurst: 1e6}, routes: []consumer.Route{h.route("/ws/large")},
	})
	c, _ := testkit.Try(t, n.dial, n.handshake("/ws/large", "ada", "acme", offering(deflateOffer)))
	noise := make([]byte, limit) // that no compressor makes shorter
	for i := range noise {
		noise[i] = '!' + byte(i*i*31%89)
	}
	whole := testkit.Frame{Opcode: testkit.OpText, Payload: noise}
	var hundreds []testkit.Frame
	for i := 0; i < limit; i += 100 {
		f := testkit.Frame{More: i+100 < limit, Payload: noise[i : i+100]}
		if i == 0 {
			f.Opcode = testkit.OpText
		}
		hundreds = append(hundreds, f, testkit.Frame{Opcode: testkit.OpPong})
	}
	for name, frames := range map[string][]testkit.Frame{
		"whole": {whole}, "compressed": {deflated(t, string(noise))}, "in fragments": hundreds,
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.Send(frames...); err != nil {
				t.Fatal(err)
			}
			select {
			case size := <-got:
				if size != limit {
					t.Errorf("got %d bytes, want %d", size, limit)
				}
			case <-time.After(testkit.Patience):
				t.Fatal("the message did not come")
			}
		})
	}
}

// TestSenderOfACutOffConnectionIsReadSlowly: a client whose connection ends may go on sending as fast as
// it can; little of that is still read.
func TestSenderOfACutOffConnectionIsReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const flood, most = 64 << 20, 4 << 20
		n := startNode(t, setup{pipe: testkit.Listen(), now: time.Now, options: gateway.Options{CloseTimeout: 5 * time.Second}})
		c := n.connect("/ws/events", "ada", "acme")
		c.Timeout = 0
		_ = c.SetReadDeadline(time.Time{}) // a pipe has no trouble with it
		taken := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			piece := make([]byte, 64<<10)
			_, _ = c.Write(announce(0x81, 1<<50))
			for taken < flood {
				k, err := c.Write(piece)
				taken += k
				if err != nil {
					return
				}
			}
		}()
		if _, err := c.Next(); err == nil || !strings.Contains(err.Error(), "1009") {
			t.Errorf("got %v, want 1009", err)
		}
		<-done
		if taken > most {
			t.Errorf("read of a connection that had ended: got %d bytes, want at most %d", taken, most)
		}
		n.stop()
		synctest.Wait()
	})
}

// blocking is a route whose consumer handles messages only when the test lets it.
func blocking(tb testing.TB, pattern string, without bool) (route consumer.Route, release func()) {
	tb.Helper()
	gate := make(chan struct{}) // closed by release
	h := &hooks{receive: func(ctx context.Context, _ consumer.Conn, _ event.RawMessage) error {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return nil
	}}
	route = h.route(pattern)
	route.WithoutOrganization = without
	release = sync.OnceFunc(func() { close(gate) })
	tb.Cleanup(release)
	return route, release
}

// TestInboxesOfAnOrganizationAreBounded: what its members have sent and consumers have not handled counts for
// the organization, and a connection whose frame has no room ends with 4429. Others do not notice.
func TestInboxesOfAnOrganizationAreBounded(t *testing.T) {
	const limit, size, conns = 512 << 10, 60 << 10, 20
	for name, org := range map[string]string{"of an organization": "acme", "without one": ""} {
		t.Run(name, func(t *testing.T) {
			route, release := blocking(t, "/ws/slow", true)
			n := startNode(t, setup{options: gateway.Options{ReceiveBytesPerOrganization: limit, CloseTimeout: 100 * time.Millisecond}, routes: []consumer.Route{route}})
			other := n.subscribe("grace", "globex", "all")
			frame := testkit.Frame{Opcode: testkit.OpText, Payload: bytes.Repeat([]byte{'x'}, size)}
			ended := make(chan int, conns) // the code of each
			var readers sync.WaitGroup
			for i := range conns {
				c := n.connect("/ws/slow", []string{"ada", "alan"}[i%2], org)
				if err := c.Send(frame); err != nil {
					t.Fatal(err)
				}
				readers.Go(func() {
					_, err := c.Next()
					if closed, ok := err.(*testkit.ClosedError); ok { //nolint:errorlint // as it comes
						ended <- closed.Code
					}
					_ = c.Close()
				})
			}
			// Each has its message read, or ended.
			testkit.Eventually(t, "all frames were met", func() bool {
				if got := n.metric("orgcast_receive_bytes"); got > limit {
					t.Fatalf("held: got %v bytes, want at most %d", got, limit)
				}
				return n.metric("orgcast_frames_received_total")-1+n.metric("orgcast_receive_refused_total") >= conns
			})
			if got, most := n.metric("orgcast_receive_bytes"), n.metric("orgcast_receive_refused_total"); got < limit/2 || most < conns/2 {
				t.Errorf("got %v bytes held and %v connections ended, want about %d and more than %d", got, most, limit, conns/2)
			}
			if code := <-ended; code != 4429 {
				t.Errorf("closed with %d, want 4429", code)
			}
			if err := other.SendText(`{"type":"ping","pad":"` + strings.Repeat("x", size) + `"}`); err != nil {
				t.Fatal(err)
			}
			other.Expect(t, `{"type":"pong"}`)
			release()
			n.expectMetric(0, "orgcast_receive_bytes")
			n.stop()
			readers.Wait()
			if _, used := n.gateway.Books(); used != 0 {
				t.Errorf("budgets in use: got %d bytes, want 0", used)
			}
		})
	}
}

// TestHalfSentMessagesAreBounded: what is held of messages whose end does not come counts, too: plain ones,
// fragments, and what compressed ones have become.
func TestHalfSentMessagesAreBounded(t *testing.T) {
	const limit, conns = 512 << 10, 24
	text := bytes.Repeat([]byte{'x'}, 40<<10)
	packed := deflated(t, string(text))
	packed.More = true
	for name, sent := range map[string][]byte{
		"half a frame":          append(announce(0x81, 64<<10), text...),
		"fragments":             append(append(announce(0x01, 20<<10), text[:20<<10]...), append(announce(0x00, 30<<10), text[:20<<10]...)...),
		"compressed":            packed.Bytes(),
		"compressed, a trickle": append(announce(0x41, 100), 0),
	} {
		t.Run(name, func(t *testing.T) {
			n := startNode(t, setup{options: gateway.Options{Compress: true, ReceiveBytesPerOrganization: limit, CloseTimeout: 100 * time.Millisecond}})
			other := n.connectDeflate("grace", "globex", "all")
			for range conns {
				c := n.connectDeflate("ada", "acme")
				if _, err := c.Write(sent); err != nil {
					t.Fatal(err)
				}
			}
			testkit.Eventually(t, "some have ended, for all others there is room", func() bool {
				held := n.metric("orgcast_receive_bytes")
				if held > limit {
					t.Fatalf("held: got %v bytes, want at most %d", held, limit)
				}
				return held >= limit/2 && n.metric("orgcast_receive_refused_total") >= conns/4
			})
			n.expectMetric(0, "orgcast_connections_closed_total", "code=1009")
			if err := other.Send(deflated(t, `{"type":"ping"}`)); err != nil {
				t.Fatal(err)
			}
			expectMessage(t, other, `{"type":"pong"}`, false)
			n.stop()
			if _, used := n.gateway.Books(); used != 0 {
				t.Errorf("budgets in use: got %d bytes, want 0", used)
			}
		})
	}
}

// TestReceiveBudgetEndsEmpty: however connections end, nothing stays in the books.
func TestReceiveBudgetEndsEmpty(t *testing.T) {
	route, _ := blocking(t, "/ws/slow", false)
	n := startNode(t, setup{options: gateway.Options{Compress: true, CloseTimeout: 100 * time.Millisecond, HookTimeout: time.Second, FrameBurst: 3}, routes: []consumer.Route{route}})
	many := func(count int) []byte {
		return bytes.Repeat(testkit.Frame{Opcode: testkit.OpText, Payload: []byte(`{"type":"ping"}`)}.Bytes(), count)
	}
	for name, sent := range map[string][]byte{
		"waiting": many(2), "too fast": many(9), "not UTF-8": append(many(1), testkit.Frame{Opcode: testkit.OpText, Payload: []byte{0xff}}.Bytes()...),
		"too big": announce(0x81, 1<<40), "closed": append(many(1), testkit.CloseFrame(1000, "").Bytes()...), "half": announce(0x81, 100),
		"not deflate": testkit.Frame{Opcode: testkit.OpText, RSV: rsv1, Payload: []byte{0xff, 0xff, 0xff}}.Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := testkit.Try(t, n.dial, n.handshake("/ws/slow", "ada", "acme", http.Header{"Sec-Websocket-Extensions": {deflateOffer}}))
			_, _ = c.Write(sent) // the server may have ended it before
			if name == "waiting" || name == "half" {
				testkit.Eventually(t, "something is held", func() bool { return n.metric("orgcast_receive_bytes") > 0 })
				_ = c.Close()
			}
			n.expectConnections(0)
			n.expectMetric(0, "orgcast_receive_bytes")
		})
	}
}
