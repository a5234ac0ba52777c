package event

import (
	"bytes"
	"compress/flate"
	"sync"
)

// rsv1 marks a message that is deflated (RFC 7692, section 6).
const rsv1 = 0x40

// flateTail ends every flushed deflate stream and is not sent (RFC 7692, section 7.2.1).
const flateTail = 4

// deflater is a compressor with room for its output.
type deflater struct {
	out bytes.Buffer
	w   *flate.Writer
}

var deflaters = sync.Pool{New: func() any { //nolint:gochecknoglobals // a pool is shared by nature
	d := new(deflater)
	d.w, _ = flate.NewWriter(&d.out, flate.BestSpeed) // the level is valid
	return d
}}

// Deflated returns the frames of the events in a row, compressed without context takeover where an
// event's payload has at least threshold bytes and becomes smaller. They are made once, at the
// first call, and shared by all receivers that agreed on permessage-deflate. The caller must not
// change them.
func (b *Burst) Deflated(threshold int) []byte {
	b.deflate.Do(func() {
		if len(b.events) == 1 {
			b.deflated = deflate(b.frames, threshold)
			return
		}
		for _, e := range b.events {
			alone := e.Alone()
			if b.shows {
				alone = alone.Positioned()
			}
			b.deflated = append(b.deflated, alone.Deflated(threshold)...)
		}
	})
	return b.deflated
}

// deflate returns one text frame, compressed if that is worth it.
func deflate(whole []byte, threshold int) []byte {
	payload := whole[headerLength(whole):]
	if len(payload) < threshold {
		return whole
	}
	d, _ := deflaters.Get().(*deflater)
	defer deflaters.Put(d)
	d.out.Reset()
	d.w.Reset(&d.out)
	_, _ = d.w.Write(payload) // a buffer takes everything
	_ = d.w.Flush()
	packed := d.out.Bytes()[:d.out.Len()-flateTail]
	if len(packed) >= len(payload) {
		return whole
	}
	frame, header := newTextFrame(len(packed))
	frame[0] |= rsv1
	copy(frame[header:], packed)
	return frame
}
