package event_test

import (
	"testing"

	"orgcast/internal/event"
	"orgcast/internal/socket"
)

// The encodings of WebSockets, which the tests here use.
var (
	textSlot, deflatedSlot = event.NewSlot(), event.NewSlot()

	textFrames = &event.Encoding{Slot: textSlot, Encode: func(e *event.Event, s event.Shape, _ []byte) []byte {
		return e.AppendText(socket.NewTextFrame(e.TextSize(s)), s)
	}}
)

func deflatedFrom(threshold int) *event.Encoding {
	return &event.Encoding{Slot: deflatedSlot, Base: textFrames, Encode: func(_ *event.Event, _ event.Shape, frame []byte) []byte {
		return socket.Deflate(frame, threshold)
	}}
}

// shaped is a burst in the shape that a client uses.
type shaped struct {
	*event.Burst

	shape event.Shape
}

func plain(b *event.Burst) shaped     { return shaped{b, event.Plain} }
func enveloped(b *event.Burst) shaped { return shaped{b, event.Enveloped} }

// Frames returns the consecutive text frames.
func (s shaped) Frames() []byte { return s.Bytes(s.shape, textFrames) }

// Deflated returns the frames, compressed above a threshold.
func (s shaped) Deflated(threshold int) []byte { return s.Bytes(s.shape, deflatedFrom(threshold)) }

// frameOf returns the text frame of a payload as it was published.
func frameOf(e *event.Event) []byte { return plain(e.Alone()).Frames() }

// TestTextSize: TextSize returns the size of the text.
func TestTextSize(t *testing.T) {
	g := mustGroup(t, "7", "all")
	for _, e := range []*event.Event{decoded(t, g, "x"), recorded(t, g, "1-1", "x"), recorded(t, g, "18446744073709551615-18446744073709551615", "")} {
		for _, s := range []event.Shape{event.Plain, event.Enveloped} {
			if got, want := e.TextSize(s), len(e.AppendText(nil, s)); got != want {
				t.Errorf("%v in shape %d: got %d, want %d", e, s, got, want)
			}
		}
	}
}
