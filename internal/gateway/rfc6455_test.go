package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orgcast/internal/consumer"
	"orgcast/internal/event"
	"orgcast/internal/gateway"
	"orgcast/internal/testkit"
)

// echo answers every frame with its payload as a JSON string.
func echo() *hooks {
	return &hooks{receive: func(_ context.Context, c consumer.Conn, f event.RawMessage) error {
		if f.Binary {
			return c.Send(fmt.Sprintf("binary % x", f.Data))
		}
		return c.Send(string(f.Data))
	}}
}

func text(s string) testkit.Frame { return testkit.Frame{Opcode: testkit.OpText, Payload: []byte(s)} }

func frame(op byte, s string) testkit.Frame { return testkit.Frame{Opcode: op, Payload: []byte(s)} }

// more makes a frame the beginning or middle of a fragmented message.
func more(f testkit.Frame) testkit.Frame {
	f.More = true
	return f
}

func cont(s string) testkit.Frame { return frame(testkit.OpContinuation, s) }

func rsv(bits byte, f testkit.Frame) testkit.Frame {
	f.RSV = bits
	return f
}

// describe names a frame in the tables below.
func describe(f testkit.Frame) string {
	switch f.Opcode {
	case testkit.OpText:
		return string(f.Payload)
	case testkit.OpPong:
		return "pong " + string(f.Payload)
	case testkit.OpPing:
		return "ping " + string(f.Payload)
	case testkit.OpClose:
		code, _ := f.Close()
		return fmt.Sprintf("close %d", code)
	default:
		return f.String()
	}
}

// TestRFC6455 has the cases of the Autobahn fuzzing client that do not concern compression, in its
// order: framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closing, sizes. After "end"
// the server has closed the TCP connection. Every case runs twice: in one write, and byte by byte.
// What came before a close or an error is answered first.
func TestRFC6455(t *testing.T) {
	long := strings.Repeat("x", 125)
	tests := map[string]struct {
		send []testkit.Frame
		want []string
	}{
		"1 empty text":               {send: []testkit.Frame{text("")}, want: []string{`""`}},
		"1 text of 125 bytes":        {send: []testkit.Frame{text(long)}, want: []string{`"` + long + `"`}},
		"1 text of 126 bytes":        {send: []testkit.Frame{text(long + "y")}, want: []string{`"` + long + `y"`}},
		"1 text of 65535 bytes":      {send: []testkit.Frame{text(strings.Repeat("x", 65535))}, want: []string{`"` + strings.Repeat("x", 65535) + `"`}},
		"1 text of 65536 bytes":      {send: []testkit.Frame{text(strings.Repeat("x", 65536))}, want: []string{`"` + strings.Repeat("x", 65536) + `"`}},
		"1 binary":                   {send: []testkit.Frame{frame(testkit.OpBinary, "\x00\xff")}, want: []string{`"binary 00 ff"`}},
		"1 empty binary":             {send: []testkit.Frame{frame(testkit.OpBinary, "")}, want: []string{`"binary "`}},
		"2 ping":                     {send: []testkit.Frame{frame(testkit.OpPing, "")}, want: []string{"pong "}},
		"2 ping with payload":        {send: []testkit.Frame{frame(testkit.OpPing, "hello")}, want: []string{"pong hello"}},
		"2 ping with binary":         {send: []testkit.Frame{frame(testkit.OpPing, "\x00\xff\xfe")}, want: []string{"pong \x00\xff\xfe"}},
		"2 ping of 125 bytes":        {send: []testkit.Frame{frame(testkit.OpPing, long)}, want: []string{"pong " + long}},
		"2 ping of 126 bytes":        {send: []testkit.Frame{frame(testkit.OpPing, long+"y")}, want: []string{"close 1002", "end"}},
		"2 unsolicited pong":         {send: []testkit.Frame{frame(testkit.OpPong, "x"), text("a")}, want: []string{`"a"`}},
		"2 ten pings":                {send: pings(10), want: pongs(10)},
		"3 RSV1 on text":             {send: []testkit.Frame{rsv(4, text("a"))}, want: []string{"close 1002", "end"}},
		"3 RSV2 on text":             {send: []testkit.Frame{text("a"), rsv(2, text("b"))}, want: []string{`"a"`, "close 1002", "end"}},
		"3 RSV3 on text":             {send: []testkit.Frame{rsv(1, text("a"))}, want: []string{"close 1002", "end"}},
		"3 all RSV on ping":          {send: []testkit.Frame{rsv(7, frame(testkit.OpPing, "x"))}, want: []string{"close 1002", "end"}},
		"3 RSV on close":             {send: []testkit.Frame{rsv(4, testkit.CloseFrame(1000, ""))}, want: []string{"close 1002", "end"}},
		"4 reserved data opcode 3":   {send: []testkit.Frame{frame(3, "x")}, want: []string{"close 1002", "end"}},
		"4 reserved data opcode 7":   {send: []testkit.Frame{frame(7, "")}, want: []string{"close 1002", "end"}},
		"4 reserved data after text": {send: []testkit.Frame{text("a"), frame(5, "x"), frame(testkit.OpPing, "")}, want: []string{`"a"`, "close 1002", "end"}},
		"4 reserved ctrl after text": {send: []testkit.Frame{text("a"), frame(13, "x"), frame(testkit.OpPing, "")}, want: []string{`"a"`, "close 1002", "end"}},
		"4 reserved control 11":      {send: []testkit.Frame{frame(11, "")}, want: []string{"close 1002", "end"}},
		"4 reserved control 15":      {send: []testkit.Frame{frame(15, "x")}, want: []string{"close 1002", "end"}},
		"5 two fragments":            {send: []testkit.Frame{more(text("a")), cont("b")}, want: []string{`"ab"`}},
		"5 empty fragments":          {send: []testkit.Frame{more(text("")), more(cont("")), cont("a")}, want: []string{`"a"`}},
		"5 ping between fragments":   {send: []testkit.Frame{more(text("a")), frame(testkit.OpPing, "p"), cont("b")}, want: []string{"pong p", `"ab"`}},
		"5 pong between fragments":   {send: []testkit.Frame{more(text("a")), frame(testkit.OpPong, "p"), cont("b")}, want: []string{`"ab"`}},
		"5 close between fragments":  {send: []testkit.Frame{more(text("a")), testkit.CloseFrame(1000, "")}, want: []string{"close 1000", "end"}},
		"5 fragmented ping":          {send: []testkit.Frame{more(frame(testkit.OpPing, "a")), cont("b")}, want: []string{"close 1002", "end"}},
		"5 fragmented close":         {send: []testkit.Frame{more(testkit.CloseFrame(1000, ""))}, want: []string{"close 1002", "end"}},
		"5 continuation of nothing":  {send: []testkit.Frame{cont("a")}, want: []string{"close 1002", "end"}},
		"5 continuation after end":   {send: []testkit.Frame{more(text("a")), cont("b"), cont("c")}, want: []string{`"ab"`, "close 1002", "end"}},
		"5 text inside a message":    {send: []testkit.Frame{more(text("a")), text("b")}, want: []string{"close 1002", "end"}},
		"5 binary inside a message":  {send: []testkit.Frame{more(text("a")), frame(testkit.OpBinary, "b")}, want: []string{"close 1002", "end"}},
		"6 UTF-8":                    {send: []testkit.Frame{text("κόσμε 🙂")}, want: []string{`"κόσμε 🙂"`}},
		"6 UTF-8 split":              {send: []testkit.Frame{more(text("\xf0\x9f")), more(cont("\x99")), cont("\x82")}, want: []string{`"🙂"`}},
		"6 not UTF-8":                {send: []testkit.Frame{text("a\xff")}, want: []string{"close 1007", "end"}},
		"6 not UTF-8, split":         {send: []testkit.Frame{more(text("\xce\xba\xe1")), cont("\x80")}, want: []string{"close 1007", "end"}},
		"6 cut character":            {send: []testkit.Frame{text("\xf0\x9f\x99")}, want: []string{"close 1007", "end"}},
		"6 surrogate":                {send: []testkit.Frame{text("\xed\xa0\x80")}, want: []string{"close 1007", "end"}},
		"6 overlong":                 {send: []testkit.Frame{text("\xc0\xaf")}, want: []string{"close 1007", "end"}},
		"6 beyond Unicode":           {send: []testkit.Frame{text("\xf4\x90\x80\x80")}, want: []string{"close 1007", "end"}},
		"6 not UTF-8 in binary":      {send: []testkit.Frame{frame(testkit.OpBinary, "\xff")}, want: []string{`"binary ff"`}},
		"7 close without code":       {send: []testkit.Frame{frame(testkit.OpClose, "")}, want: []string{"close 1005", "end"}},
		"7 close of one byte":        {send: []testkit.Frame{frame(testkit.OpClose, "\x03")}, want: []string{"close 1002", "end"}},
		"7 close with reason":        {send: []testkit.Frame{testkit.CloseFrame(1000, "bye")}, want: []string{"close 1000", "end"}},
		"7 close of 125 bytes":       {send: []testkit.Frame{testkit.CloseFrame(1000, long[:123])}, want: []string{"close 1000", "end"}},
		"7 close of 126 bytes":       {send: []testkit.Frame{testkit.CloseFrame(1000, long[:124])}, want: []string{"close 1002", "end"}},
		"7 close twice":              {send: []testkit.Frame{testkit.CloseFrame(1000, ""), testkit.CloseFrame(1000, "")}, want: []string{"close 1000", "end"}},
		"7 text after close":         {send: []testkit.Frame{testkit.CloseFrame(1000, ""), text("a")}, want: []string{"close 1000", "end"}},
		"7 ping after close":         {send: []testkit.Frame{testkit.CloseFrame(1000, ""), frame(testkit.OpPing, "")}, want: []string{"close 1000", "end"}},
		"7 much after close":         {send: []testkit.Frame{testkit.CloseFrame(1000, ""), text(strings.Repeat("x", 60000))}, want: []string{"close 1000", "end"}},
		"7 reason not UTF-8":         {send: []testkit.Frame{testkit.CloseFrame(1000, "\xff")}, want: []string{"close 1007", "end"}},
		"7 close after text":         {send: []testkit.Frame{text("a"), testkit.CloseFrame(1000, "")}, want: []string{`"a"`, "close 1000", "end"}},
		"6 not UTF-8 after text":     {send: []testkit.Frame{text("a"), text("\xff")}, want: []string{`"a"`, "close 1007", "end"}},
		"9 too many after text":      {send: []testkit.Frame{text("a"), text(strings.Repeat("x", 65537))}, want: []string{`"a"`, "close 1009", "end"}},
		"9 one byte too many":        {send: []testkit.Frame{text(strings.Repeat("x", 65537))}, want: []string{"close 1009", "end"}},
		"9 too many in fragments":    {send: []testkit.Frame{more(text(strings.Repeat("x", 65536))), cont("y")}, want: []string{"close 1009", "end"}},
		"unmasked":                   {send: []testkit.Frame{{Opcode: testkit.OpText, Unmasked: true, Payload: []byte("a")}}, want: []string{"close 1002", "end"}},
		"unmasked ping":              {send: []testkit.Frame{{Opcode: testkit.OpPing, Unmasked: true}}, want: []string{"close 1002", "end"}},
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		tests[fmt.Sprintf("7 close with %d", code)] = struct {
			send []testkit.Frame
			want []string
		}{[]testkit.Frame{testkit.CloseFrame(code, "")}, []string{fmt.Sprintf("close %d", code), "end"}}
	}
	for _, code := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		tests[fmt.Sprintf("7 close with %d, which nobody may send", code)] = struct {
			send []testkit.Frame
			want []string
		}{[]testkit.Frame{testkit.CloseFrame(code, "")}, []string{"close 1002", "end"}}
	}
	n := startNode(t, setup{routes: []consumer.Route{echo().route("/ws/echo")}, options: gateway.Options{FrameBurst: 1000}})
	for name, test := range tests {
		for _, chunk := range []int{1 << 20, 1} {
			if chunk == 1 && size(test.send) > 1000 {
				continue
			}
			t.Run(fmt.Sprintf("%s/by %d", name, chunk), func(t *testing.T) {
				c := testkit.Connect(t, n.dial, n.handshake("/ws/echo", "ada", "acme", nil))
				sendIn(c, test.send, chunk)
				var got []string
				for len(got) < len(test.want) {
					f, err := c.ReadFrame()
					if err != nil {
						got = append(got, "end")
						if !gone(err) {
							t.Error(err)
						}
						break
					}
					if code, reason := f.Close(); f.Opcode == testkit.OpClose && reason != "" {
						t.Errorf("close %d has the reason %q", code, reason)
					}
					got = append(got, describe(f))
					if f.Opcode == testkit.OpClose {
						c.HalfClose()
					}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("want (-), got (+):\n%s", diff)
				}
			})
		}
	}
	if got := n.metric("orgcast_hook_panics_total"); got != 0 {
		t.Errorf("panics: got %v, want 0", got)
	}
}

func size(frames []testkit.Frame) (n int) {
	for _, f := range frames {
		n += len(f.Payload)
	}
	return n
}

// sendIn writes frames in pieces. The server may close before all is out.
func sendIn(c *testkit.Client, frames []testkit.Frame, chunk int) {
	var b []byte
	for _, f := range frames {
		b = append(b, f.Bytes()...)
	}
	for len(b) > 0 {
		n := min(chunk, len(b))
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
	}
}

func pings(n int) (frames []testkit.Frame) {
	for i := range n {
		frames = append(frames, frame(testkit.OpPing, fmt.Sprint(i)))
	}
	return frames
}

func pongs(n int) (want []string) {
	for i := range n {
		want = append(want, fmt.Sprintf("pong %d", i))
	}
	return want
}

// gone reports whether an error is the end of a connection and not a time-out.
func gone(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return !ok || !netErr.Timeout()
}
