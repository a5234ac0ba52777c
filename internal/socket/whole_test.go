package socket_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"orgcast/internal/socket"
	"orgcast/internal/testkit"
)

// outcome is what reading a connection to its end has given.
type outcome struct {
	messages []string
	closed   socket.StatusCode // 0 without a close frame
	why      error             // of the package's own, nil for any other
}

// readToEnd reads what a client sends at once, on a connection of a kind.
func readToEnd(t *testing.T, on kind, o socket.Options, sent []byte) (got outcome) {
	t.Helper()
	p := connect(t, o, on, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = p.client.Write(sent) // the server may end it first
		_ = p.client.Close()
	}()
	var b budget
	for {
		m, err := next(p.conn, &b)
		if err == nil {
			got.messages = append(got.messages, fmt.Sprintf("%t %q", m.Binary, m.Data))
			b.Give(socket.Held(m.Data))
			continue
		}
		if closed, ok := errors.AsType[socket.ClosedError](err); ok {
			got.closed = closed.Code
		}
		for _, known := range []error{socket.ErrGone, socket.ErrNotUTF8, socket.ErrMessageTooBig, socket.ErrTooManyFrames} {
			if errors.Is(err, known) {
				got.why = known
			}
		}
		break
	}
	if b.held != 0 {
		t.Errorf("%s: the budget still counts %d bytes", on, b.held)
	}
	_ = p.conn.Close()
	within(t, "the client", done)
	return got
}

// TestWholeFramesAreReadAlike: a frame that has come whole is read without coder/websocket where the
// socket lets it, and gives what coder/websocket makes of it.
func TestWholeFramesAreReadAlike(t *testing.T) {
	const most = 300
	frame := func(opcode byte, payload string) testkit.Frame {
		return testkit.Frame{Opcode: opcode, Payload: []byte(payload)}
	}
	changed := func(f testkit.Frame, change func(*testkit.Frame)) []byte {
		change(&f)
		return f.Bytes()
	}
	masked := func(head ...byte) []byte { return append(head, 1, 2, 3, 4) }
	for name, sent := range map[string][]byte{
		"text":                         frame(testkit.OpText, "hello").Bytes(),
		"binary":                       frame(testkit.OpBinary, "\xff\x00").Bytes(),
		"empty":                        frame(testkit.OpText, "").Bytes(),
		"the longest short one":        frame(testkit.OpText, strings.Repeat("x", 125)).Bytes(),
		"the shortest long one":        frame(testkit.OpText, strings.Repeat("x", 126)).Bytes(),
		"the longest":                  frame(testkit.OpText, strings.Repeat("x", most)).Bytes(),
		"too long":                     frame(testkit.OpText, strings.Repeat("x", most+1)).Bytes(),
		"not UTF-8":                    frame(testkit.OpText, "\xff").Bytes(),
		"unmasked":                     changed(frame(testkit.OpText, "hello"), func(f *testkit.Frame) { f.Unmasked = true }),
		"reserved bits":                changed(frame(testkit.OpText, "hello"), func(f *testkit.Frame) { f.RSV = 4 }),
		"unknown kind":                 frame(3, "hello").Bytes(),
		"continues nothing":            frame(testkit.OpContinuation, "hello").Bytes(),
		"length in too many bytes":     append(masked(0x81, 0x80|126, 0, 1), 'x'),
		"length in far too many bytes": append(masked(0x81, 0x80|127, 0, 0, 0, 0, 0, 0, 0, 1), 'x'),
		"head only":                    {0x81},
		"a part":                       frame(testkit.OpText, "hello").Bytes()[:8],
		"fragments":                    append(changed(frame(testkit.OpText, "a"), func(f *testkit.Frame) { f.More = true }), frame(testkit.OpContinuation, "b").Bytes()...),
		"whole within fragments":       append(changed(frame(testkit.OpText, "a"), func(f *testkit.Frame) { f.More = true }), frame(testkit.OpText, "b").Bytes()...),
		"several":                      bytes.Join([][]byte{frame(testkit.OpText, "a").Bytes(), frame(testkit.OpPong, "").Bytes(), frame(testkit.OpBinary, "b").Bytes(), testkit.CloseFrame(4000, "x").Bytes()}, nil),
		"after the close frame":        append(testkit.CloseFrame(1000, "").Bytes(), frame(testkit.OpText, "late").Bytes()...),
		"too many":                     bytes.Repeat(frame(testkit.OpText, "a").Bytes(), 6),
		"closed within fragments":      append(changed(frame(testkit.OpText, "a"), func(f *testkit.Frame) { f.More = true }), testkit.CloseFrame(1000, "").Bytes()...),
		"closed without a code":        frame(testkit.OpClose, "").Bytes(),
		"closed with half a code":      frame(testkit.OpClose, "\x03").Bytes(),
		"closed with a long reason":    testkit.CloseFrame(1001, strings.Repeat("x", 123)).Bytes(),
		"closed with too long a frame": testkit.CloseFrame(1001, strings.Repeat("x", 124)).Bytes(),
		"close not UTF-8":              testkit.CloseFrame(1000, "\xff").Bytes(),
		"close in fragments":           changed(testkit.CloseFrame(1000, ""), func(f *testkit.Frame) { f.More = true }),
		"close unmasked":               changed(testkit.CloseFrame(1000, ""), func(f *testkit.Frame) { f.Unmasked = true }),
		"close with reserved bits":     changed(testkit.CloseFrame(1000, ""), func(f *testkit.Frame) { f.RSV = 1 }),
	} {
		t.Run(name, func(t *testing.T) { readAlike(t, most, sent) })
	}
	for _, code := range []int{0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65535} {
		t.Run(fmt.Sprint("close ", code), func(t *testing.T) { readAlike(t, most, testkit.CloseFrame(code, "bye").Bytes()) })
	}
}

// readAlike compares connections that need no parser for whole frames with one that does.
func readAlike(t *testing.T, most int64, sent []byte) {
	t.Helper()
	o := options()
	o.MaxMessage, o.FramesPerSecond, o.FrameBurst = most, 1e-9, 4
	want := readToEnd(t, onPipe, o, sent)
	for _, on := range direct() {
		if got := readToEnd(t, on, o, sent); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v as by the parser", on, got, want)
		}
	}
}

// FuzzWholeFrame: whatever comes, what is taken for a whole frame is one, and what is left is not.
func FuzzWholeFrame(f *testing.F) {
	f.Add(text("hello").Bytes())
	f.Add(text(strings.Repeat("x", 126)).Bytes())
	f.Add(testkit.CloseFrame(1000, "bye").Bytes())
	f.Add([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		opcode, payload, size, ok := socket.WholeFrame(b)
		if !ok {
			return
		}
		again := testkit.Frame{Opcode: opcode, Payload: payload}.Bytes()
		if len(payload) <= 125 && b[1]&0x7f == 126 { // legal to us as to coder/websocket
			again = again[:0]
		}
		if size > len(b) || len(again) > 0 && (size != len(again) || b[0] != again[0] || b[1] != again[1]) {
			t.Errorf("% x: got a frame of %d bytes, want % x", b, size, again)
		}
	})
}
