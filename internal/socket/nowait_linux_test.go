package socket_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"orgcast/internal/socket"
)

// onDirect runs a test on each kind of connection whose writes need not wait.
func onDirect(t *testing.T, test func(*testing.T, kind)) {
	t.Helper()
	for _, on := range direct() {
		t.Run(string(on), func(t *testing.T) { test(t, on) })
	}
}

// TestFinishAfterPart: when the socket takes a part of some frames, Finish sends the rest, nothing
// comes between, and the peer reads each byte once.
func TestFinishAfterPart(t *testing.T) { onDirect(t, finishAfterPart) }

func finishAfterPart(t *testing.T, on kind) {
	t.Helper()
	p := connect(t, options(), on, nil)
	if !p.conn.Direct() {
		t.Fatal("no direct writes")
	}
	want, _ := manyFrames()
	reused := bytes.Clone(want)
	if sent, err := p.conn.TryWrite(reused, socket.Reused); sent != socket.SentPart || err != nil {
		t.Fatalf("got %v, %v, want a part", sent, err)
	}
	clear(reused) // as its owner may
	got := make([]byte, len(want))
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(p.client, got[:len(got)/2])
		read <- err
		_, err = io.ReadFull(p.client, got[len(got)/2:])
		read <- err
	}()
	finished := make(chan error, 1)
	go func() { finished <- p.conn.Finish() }()
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-finished, <-read); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the peer did not read what was written")
	}
}

// TestNothingBetweenParts: while the rest of a frame waits, TryWrite sends nothing, and Write sends
// the rest first.
func TestNothingBetweenParts(t *testing.T) { onDirect(t, nothingBetweenParts) }

func nothingBetweenParts(t *testing.T, on kind) {
	t.Helper()
	p := connect(t, options(), on, nil)
	if !p.conn.Direct() {
		t.Fatal("no direct writes")
	}
	want, _ := manyFrames()
	if sent, err := p.conn.TryWrite(want, 0); sent != socket.SentPart || err != nil {
		t.Fatalf("got %v, %v, want a part", sent, err)
	}
	some := make([]byte, 64<<10)
	if _, err := io.ReadFull(p.client, some); err != nil { // so that there is room
		t.Fatal(err)
	}
	last := frames(77)
	if sent, err := p.conn.TryWrite(last, 0); sent != socket.SentNone || err != nil {
		t.Fatalf("TryWrite over a rest: got %v, %v, want nothing sent", sent, err)
	}
	written := make(chan error, 1)
	go func() { written <- p.conn.Write(last) }()
	got := make([]byte, len(want)+len(last)-len(some))
	_, err := io.ReadFull(p.client, got)
	if err := errors.Join(err, <-written); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, append(want, last...)[len(some):]) {
		t.Error("the peer did not read what was written")
	}
}

// TestMuteFinishesTheFrame: a frame that was sent in part is finished. Of the other waiting frames,
// only the close frame follows.
func TestMuteFinishesTheFrame(t *testing.T) { onDirect(t, muteFinishesTheFrame) }

func muteFinishesTheFrame(t *testing.T, on kind) {
	t.Helper()
	for name, test := range map[string]struct {
		last bool // the close frame waits with the rest
		want error
	}{
		"the close frame waits, too": {last: true},
		"it is sent later":           {want: socket.ErrMuted},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, options(), on, nil)
			if !p.conn.Direct() {
				t.Fatal("no direct writes")
			}
			waiting, all := manyFrames()
			goodbye, how := socket.CloseFrame(4000, "last"), socket.How(0)
			if test.last {
				waiting, how = append(waiting, goodbye...), socket.Last
			}
			if sent, err := p.conn.TryWrite(waiting, how); sent != socket.SentPart || err != nil {
				t.Fatalf("got %v, %v, want a part", sent, err)
			}
			p.conn.Mute()
			written := make(chan error, 1)
			go func() {
				err := p.conn.Finish()
				if closeErr := p.conn.WriteClose(goodbye); closeErr != nil {
					err = closeErr
				}
				p.conn.Drain()
				_ = p.conn.Close()
				written <- err
			}()
			got, reason := p.client.ExpectClose(t, 4000)
			if reason != "last" || len(got) == 0 || len(got) >= all {
				t.Errorf("got %d messages and reason %q, want some of %d messages and the close frame", len(got), reason, all)
			}
			if err := <-written; !errors.Is(err, test.want) {
				t.Errorf("Finish: got %v, want %v", err, test.want)
			}
		})
	}
}
