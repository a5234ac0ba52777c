package bench

import (
	"bytes"
	"compress/flate"
	"fmt"
	"hash/maphash"
	"io"
)

// inflater decompresses permessage-deflate without context takeover (RFC 7692). A server that
// compresses once per event sends the same bytes to every member of a group, so the inflater
// remembers recent results. Otherwise the client would do more work than the server that it
// measures. One goroutine owns it.
type inflater struct {
	seed   maphash.Seed
	recent [256]struct{ deflated, plain []byte }
	source bytes.Reader
	tail   bytes.Reader
	reader io.ReadCloser
	buf    bytes.Buffer
}

// deflateTail is the tail that the sender removed (RFC 7692, section 7.2.1), and an empty final
// block, which tells the decompressor that this is the end.
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

func newInflater() *inflater {
	return &inflater{seed: maphash.MakeSeed(), reader: flate.NewReader(nil)}
}

// inflate returns the message, which is valid until the next call.
func (f *inflater) inflate(deflated []byte) ([]byte, error) {
	slot := &f.recent[maphash.Bytes(f.seed, deflated)%uint64(len(f.recent))]
	if len(slot.deflated) > 0 && bytes.Equal(slot.deflated, deflated) {
		return slot.plain, nil
	}
	f.source.Reset(deflated)
	f.tail.Reset([]byte(deflateTail))
	resetter, ok := f.reader.(flate.Resetter)
	if !ok {
		return nil, fmt.Errorf("inflate: %T has no Reset", f.reader)
	}
	if err := resetter.Reset(io.MultiReader(&f.source, &f.tail), nil); err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	f.buf.Reset()
	if _, err := f.buf.ReadFrom(io.LimitReader(f.reader, maxFrame+1)); err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	if f.buf.Len() > maxFrame {
		return nil, errFrame
	}
	slot.deflated = append(slot.deflated[:0], deflated...)
	slot.plain = append(slot.plain[:0], f.buf.Bytes()...)
	return slot.plain, nil
}
